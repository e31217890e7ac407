package limit_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

// TestConformance holds every back end to the same behaviour.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*testing.T, *world){
		"a window slides":               exerciseWindow,
		"none when one refuses":         exerciseAllOrNone,
		"never":                         exerciseNever,
		"amounts change at once":        exerciseAmount,
		"settling":                      exerciseSettle,
		"slots":                         exerciseSlots,
		"one key twice":                 exerciseTwice,
		"the tightest":                  exerciseTightest,
		"the one that waits longest":    exerciseLongest,
		"a clock steps back":            exerciseBack,
		"what makes no sense":           exerciseNonsense,
		"scopes, kinds and ids":         exerciseIdentity,
		"a ticket is used again":        exerciseReuse,
		"more limits than a ticket has": exerciseMany,
	} {
		for back, open := range worlds {
			t.Run(name+"/"+back, func(t *testing.T) {
				t.Parallel()
				f(t, open(t))
			})
		}
	}
}

func exerciseWindow(t *testing.T, w *world) {
	const width = time.Second // of a bucket
	d := requests("a", 10, time.Minute)
	began := w.now()
	for i := range 10 {
		got, _ := take(t, w, d)
		want := limit.Quota{Present: true, Limit: 10, Remaining: int64(9 - i)}
		want.Reset = time.Duration((w.now()/1e6+61)*1e6-w.now()) * time.Microsecond
		if !got.Admitted || got.Requests != want || got.Tokens.Present {
			t.Fatalf("%d: %+v, want %+v", i, got, want)
		}
		w.advance(100 * time.Millisecond)
	}
	got := mustRefuse(t, w, d)
	leaves := time.Duration((began/1e6+61)*1e6-w.now()) * time.Microsecond
	if got.RetryAfter != leaves || got.Never || got.Refused != d.Limit || got.Requests.Remaining != 0 {
		t.Fatalf("%+v, want a wait of %s", got, leaves)
	}
	if leaves > time.Minute+width || leaves < time.Minute-width {
		t.Fatalf("waits %s for a window of a minute", leaves)
	}
	w.advance(leaves - time.Microsecond)
	if got := mustRefuse(t, w, d); got.RetryAfter != time.Microsecond {
		t.Fatalf("%+v", got)
	}
	w.advance(time.Microsecond)
	mustTake(t, w, d)
	w.advance(time.Hour)
	for range 10 {
		mustTake(t, w, d)
	}
	mustRefuse(t, w, d)
}

func exerciseAllOrNone(t *testing.T, w *world) {
	many, few, slot := requests("a", 5, time.Minute), everybody(tokens("", 5, time.Hour, 3)), slots("a", 3)
	mustTake(t, w, many, few, slot)
	for range 5 {
		if got := mustRefuse(t, w, many, few, slot); got.Refused.Kind != limit.Tokens || got.Requests.Remaining != 4 || got.Tokens.Remaining != 2 {
			t.Fatalf("%+v", got)
		}
	}
	for range 4 {
		mustTake(t, w, many)
	}
	mustRefuse(t, w, many)
	mustTake(t, w, slot)
	mustTake(t, w, slot)
	mustRefuse(t, w, slot)
	few.Weight = 2
	mustTake(t, w, few)
}

func exerciseNever(t *testing.T, w *world) {
	heavy := tokens("a", 100, time.Minute, 101)
	if got := mustRefuse(t, w, requests("a", 1, time.Minute), heavy); !got.Never || got.RetryAfter != 0 || got.Refused != heavy.Limit {
		t.Errorf("%+v", got)
	}
	if got := mustRefuse(t, w, slots("a", 0)); !got.Never || got.Refused.Kind != limit.Concurrency {
		t.Errorf("%+v", got)
	}
	mustTake(t, w, requests("a", 1, time.Minute))
	heavy.Weight = 100
	mustTake(t, w, heavy)
}

func exerciseAmount(t *testing.T, w *world) {
	for _, d := range []limit.Demand{requests("a", 2, time.Minute), slots("a", 2)} {
		mustTake(t, w, d)
		mustTake(t, w, d)
		mustRefuse(t, w, d)
		d.Amount = 3
		mustTake(t, w, d)
		d.Amount = 1
		if got := mustRefuse(t, w, d); got.Requests.Remaining != 0 {
			t.Errorf("%+v", got)
		}
		d.Amount = 4
		mustTake(t, w, d)
	}
}

func exerciseSettle(t *testing.T, w *world) {
	d := tokens("a", 100, time.Minute, 40)
	d.Weight = 0
	remaining := func() int64 {
		got, _ := take(t, w, d)
		return got.Tokens.Remaining
	}
	d.Weight = 40
	first := mustTake(t, w, d)
	w.advance(30 * time.Second)
	second := mustTake(t, w, d)
	d.Weight = 0
	first.Settle(10)
	first.Settle(1000)
	if got := remaining(); got != 50 {
		t.Errorf("%d left of 100 after 10 + 40", got)
	}
	second.Settle(70)
	if got := remaining(); got != 20 {
		t.Errorf("%d left of 100 after 10 + 70", got)
	}
	w.advance(31 * time.Second) // the first one's bucket leaves
	if got := remaining(); got != 30 {
		t.Errorf("%d left of 100 after 70", got)
	}
	w.advance(30 * time.Second)
	d.Weight = 60
	third := mustTake(t, w, d)
	w.advance(time.Minute + time.Second)
	fourth := mustTake(t, w, d)
	third.Settle(0) // too late to matter
	third.Release()
	d.Weight = 0
	if got := remaining(); got != 40 {
		t.Errorf("%d left of 100 after 60", got)
	}
	w.advance(10 * time.Second)
	fourth.Settle(1000) // the excess counts from now
	if got := remaining(); got != 0 {
		t.Errorf("%d left of 100 after 1000", got)
	}
	w.advance(52 * time.Second)
	d.Weight = 1
	if got := mustRefuse(t, w, d); got.RetryAfter < 8*time.Second || got.RetryAfter > 9*time.Second {
		t.Errorf("%+v, want a wait until a minute after the excess", got)
	}
}

func exerciseSlots(t *testing.T, w *world) {
	d := slots("a", 2)
	first := mustTake(t, w, d)
	second := mustTake(t, w, d)
	if got := mustRefuse(t, w, d); got.RetryAfter != time.Second || got.Never || got.Refused != d.Limit {
		t.Fatalf("%+v", got)
	}
	w.advance(48 * time.Hour)
	mustRefuse(t, w, d)
	first.Release()
	first.Release()
	first.Settle(3)
	third := mustTake(t, w, d)
	mustRefuse(t, w, d)
	second.Release()
	third.Release()
	mustTake(t, w, d)
	mustTake(t, w, d)
	mustRefuse(t, w, d)
}

func exerciseTwice(t *testing.T, w *world) {
	wide, narrow := tokens("a", 100, time.Minute, 1), tokens("a", 10, time.Minute, 6)
	got, _ := take(t, w, wide, narrow, wide)
	if !got.Admitted || got.Tokens.Limit != 10 || got.Tokens.Remaining != 4 {
		t.Fatalf("%+v", got)
	}
	mustRefuse(t, w, wide, narrow)
	mustTake(t, w, wide)
}

func exerciseTightest(t *testing.T, w *world) {
	a, b, c := requests("a", 10, time.Minute), everybody(requests("", 3, time.Hour)), tokens("a", 50, time.Minute, 20)
	mustTake(t, w, b)
	got, _ := take(t, w, a, b, c)
	if got.Requests.Limit != 3 || got.Requests.Remaining != 1 || got.Tokens.Remaining != 30 || got.Requests.Reset < 55*time.Minute {
		t.Errorf("%+v", got)
	}
	a.Amount = 2
	if got, _ := take(t, w, a, b, c); got.Requests.Limit != 3 || got.Requests.Remaining != 0 { // as tight; the hour is longer
		t.Errorf("%+v", got)
	}
	w.advance(62 * time.Second)
	got = mustRefuse(t, w, a, b)
	if got.Requests.Limit != 3 || got.Requests.Remaining != 0 {
		t.Errorf("%+v", got)
	}
	if got, _ := take(t, w, a); got.Requests.Remaining != 1 {
		t.Errorf("%+v", got)
	}
}

func exerciseLongest(t *testing.T, w *world) {
	short, long := requests("a", 1, time.Minute), requests("a", 1, time.Hour)
	mustTake(t, w, short, long)
	for _, demands := range [][]limit.Demand{{short, long}, {long, short}} {
		if got := mustRefuse(t, w, demands...); got.Refused != long.Limit || got.RetryAfter < 55*time.Minute {
			t.Errorf("%+v", got)
		}
	}
}

func exerciseBack(t *testing.T, w *world) {
	d := requests("a", 2, time.Minute)
	mustTake(t, w, d)
	w.advance(-time.Hour)
	mustTake(t, w, d)
	mustRefuse(t, w, d)
	w.advance(time.Hour)
	if got := mustRefuse(t, w, d); got.RetryAfter < 59*time.Second || got.RetryAfter > 62*time.Second {
		t.Errorf("%+v", got)
	}
	w.advance(61 * time.Second)
	mustTake(t, w, d)
}

func exerciseNonsense(t *testing.T, w *world) {
	good := requests("a", 1, time.Minute)
	for what, change := range map[string]func(*limit.Demand){
		"scope":         func(d *limit.Demand) { d.Scope = 0 },
		"kind":          func(d *limit.Demand) { d.Kind = 4 },
		"no window":     func(d *limit.Demand) { d.Window = 0 },
		"short window":  func(d *limit.Demand) { d.Window = limit.MinWindow - 1 },
		"long window":   func(d *limit.Demand) { d.Window = limit.MaxWindow + 1 },
		"slots' window": func(d *limit.Demand) { d.Kind = limit.Concurrency },
		"amount":        func(d *limit.Demand) { d.Amount = -1 },
		"large amount":  func(d *limit.Demand) { d.Amount = limit.MaxAmount + 1 },
		"weight":        func(d *limit.Demand) { d.Weight = -1 },
		"no slot":       func(d *limit.Demand) { d.Kind, d.Window, d.Weight = limit.Concurrency, 0, 0 },
	} {
		bad := good
		change(&bad)
		if _, err := w.Take(t.Context(), limit.Request{Demands: []limit.Demand{good, bad}}, new(limit.Ticket)); err == nil || errors.Is(err, limit.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.Take(t.Context(), limit.Request{Demands: make([]limit.Demand, 1000)}, new(limit.Ticket)); err == nil {
		t.Error("a thousand limits are accepted")
	}
	mustTake(t, w, good)
	mustTake(t, w)
}

func exerciseIdentity(t *testing.T, w *world) {
	base := tokens("a", 1, time.Minute, 1)
	for _, change := range []func(*limit.Demand){
		func(*limit.Demand) {},
		func(d *limit.Demand) { d.Scope = limit.Project },
		func(d *limit.Demand) { d.Scope, d.Project = limit.IP, "" },
		func(d *limit.Demand) { *d = everybody(*d) },
		func(d *limit.Demand) { d.Kind = limit.Requests },
		func(d *limit.Demand) { d.Kind, d.Window = limit.Concurrency, 0 },
		func(d *limit.Demand) { d.Window = time.Hour },
		func(d *limit.Demand) { d.ID = "b" },
		func(d *limit.Demand) { d.ID = "b}{" },
		func(d *limit.Demand) { d.ID = "2001:db8::/64" },
	} {
		d := base
		change(&d)
		mustTake(t, w, d)
		mustRefuse(t, w, d)
	}
}

func exerciseReuse(t *testing.T, w *world) {
	d, slot := requests("a", 3, time.Minute), slots("a", 5)
	ticket := mustTake(t, w, d, slot)
	if _, err := w.Take(t.Context(), limit.Request{Demands: []limit.Demand{d}}, ticket); err == nil {
		t.Error("a ticket that holds a slot is given out again")
	}
	for range 2 {
		ticket.Release()
		if got, err := w.Take(t.Context(), limit.Request{Demands: []limit.Demand{d, slot}}, ticket); err != nil || !got.Admitted {
			t.Fatal(got, err)
		}
	}
	ticket.Release()
	if got, err := w.Take(t.Context(), limit.Request{Demands: []limit.Demand{d, slot}}, ticket); err != nil || got.Admitted {
		t.Fatal(got, err)
	}
	ticket.Release() // of nothing
	ticket.Settle(7)
	slot.Amount = 1
	mustTake(t, w, slot)
	mustRefuse(t, w, slot)
}

func exerciseMany(t *testing.T, w *world) {
	var demands []limit.Demand
	for i := range 30 {
		demands = append(demands, requests("a", 2, time.Duration(i+1)*time.Minute), everybody(tokens("", 2, time.Duration(i+1)*time.Minute, 1)))
	}
	mustTake(t, w, demands...)
	mustTake(t, w, demands...)
	if got := mustRefuse(t, w, demands...); got.Refused.Window != 30*time.Minute {
		t.Errorf("%+v", got)
	}
	for _, d := range demands {
		mustRefuse(t, w, d)
	}
}
