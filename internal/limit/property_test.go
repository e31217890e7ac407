package limit_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

// admission is one that a reference log has seen.
type admission struct{ at, weight int64 }

// reference is the log of everything that was admitted or charged, by limit. It
// says what the promise allows, with no buckets.
type reference struct {
	log  map[limit.Key][]*admission
	seen map[limit.Key]int64
}

func newReference() reference {
	return reference{make(map[limit.Key][]*admission), make(map[limit.Key]int64)}
}

// last is when anything was last added, or given back: a clock that has stepped back
// is taken to stand still until it gets there again.
func (r reference) last(k limit.Key, now int64) int64 { return max(now, r.seen[k]) }

// within is what was admitted in the given time before now.
func (r reference) within(k limit.Key, now, span int64) int64 {
	var sum int64
	now = r.last(k, now)
	for _, a := range r.log[k] {
		if a.at > now-span {
			sum += a.weight
		}
	}
	return sum
}

func (r reference) add(k limit.Key, now, weight int64) *admission {
	r.seen[k] = r.last(k, now)
	a := &admission{r.seen[k], weight}
	r.log[k] = append(r.log[k], a)
	return a
}

// taken is an admitted request.
type taken struct {
	tickets []*limit.Ticket // one for each back end
	demands []limit.Demand
	log     []*admission // of its token limits
	tokens  []int        // demands that those are for
	done    bool
}

// TestSameHistory drives the back ends with one history. They must answer alike,
// never admit more than the reference log allows in a window's length, and never
// refuse what would have fitted in a window's length and one bucket.
func TestSameHistory(t *testing.T) {
	t.Parallel()
	forth := []time.Duration{time.Second, time.Minute, time.Hour}
	t.Run("one call", func(t *testing.T) {
		t.Parallel()
		sameHistory(t, append(forth, -time.Second, -time.Hour), "memory", "redis")
	})
	// What is taken and undone leaves a trace: the newest bucket. It tells only if the
	// clock steps back.
	t.Run("a call for each slot", func(t *testing.T) {
		t.Parallel()
		sameHistory(t, forth, "memory", "redis, in slots")
	})
}

func sameHistory(t *testing.T, steps []time.Duration, names ...string) {
	var back []*world
	for _, name := range names {
		back = append(back, worlds[name](t))
	}
	history := 0
	rapid.Check(t, func(rt *rapid.T) {
		history++
		m := &machine{t: rt, back: back, names: names, log: newReference(), id: fmt.Sprint("h", history), inflight: make(map[limit.Key]int64)}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "op") {
			case 0, 1:
				m.advance(time.Duration(rapid.Int64Range(0, 3e6).Draw(rt, "µs")) * time.Microsecond)
			case 2:
				m.advance(rapid.SampledFrom(steps).Draw(rt, "step"))
			case 3:
				m.settle()
			case 4:
				m.release()
			default:
				m.take(m.demands())
			}
		}
		for _, r := range m.open {
			for _, t := range r.tickets {
				t.Release()
			}
		}
	})
}

type machine struct {
	t        *rapid.T
	back     []*world
	names    []string
	id       string
	log      reference
	open     []*taken
	inflight map[limit.Key]int64
}

func (m *machine) advance(d time.Duration) {
	for _, w := range m.back {
		w.advance(d)
	}
}

func (m *machine) demands() []limit.Demand {
	amount := rapid.Int64Range(1, 8).Draw(m.t, "amount")
	all := []limit.Demand{
		requests(m.id, amount, time.Second),
		requests(m.id, 2*amount, time.Minute),
		everybody(tokens("", 40*amount, 7*time.Second, rapid.Int64Range(0, 100).Draw(m.t, "weight"))),
		tokens(m.id, 30*amount, time.Minute, rapid.Int64Range(0, 100).Draw(m.t, "weight")),
		slots(m.id, amount),
	}
	all[2].Project, all[2].ID = "", m.id
	all[2].Scope = limit.IP
	mask := rapid.IntRange(1, 31).Draw(m.t, "limits")
	var some []limit.Demand
	for i, d := range all {
		if mask>>i&1 == 1 {
			some = append(some, d)
		}
	}
	return some
}

// take takes on every back end, and once more when a refusal says that it will be
// possible.
func (m *machine) take(demands []limit.Demand) {
	d := m.takeOnce(demands)
	if d.Admitted || d.Never || m.full(demands) {
		return
	}
	if d.RetryAfter > time.Microsecond {
		m.advance(d.RetryAfter - time.Microsecond)
		if early := m.takeOnce(demands); early.Admitted || early.RetryAfter != time.Microsecond {
			m.t.Fatalf("%+v, a microsecond before %+v", early, d)
		}
	}
	m.advance(time.Microsecond)
	if late := m.takeOnce(demands); !late.Admitted {
		m.t.Fatalf("%+v, after the wait of %+v", late, d)
	}
}

// full reports whether a slot is missing.
func (m *machine) full(demands []limit.Demand) bool {
	for _, d := range demands {
		if d.Kind == limit.Concurrency && m.inflight[d.Key]+1 > d.Amount {
			return true
		}
	}
	return false
}

func (m *machine) takeOnce(demands []limit.Demand) limit.Decision {
	r := &taken{demands: demands}
	var first limit.Decision
	for i, w := range m.back {
		t := new(limit.Ticket)
		d, err := w.Take(m.t.Context(), limit.Request{Demands: demands}, t)
		if err != nil {
			m.t.Fatalf("%s: %v", m.names[i], err)
		}
		if !d.Admitted && m.names[i] == "redis, in slots" { // one slot counts the request until it is undone
			d.Requests.Reset, d.Tokens.Reset = first.Requests.Reset, first.Tokens.Reset
			if d.Tokens.Remaining == first.Tokens.Remaining { // of two limits, which have as much left
				d.Tokens.Limit = first.Tokens.Limit
			}
			if d.Requests.Remaining == first.Requests.Remaining {
				d.Requests.Limit = first.Requests.Limit
			}
		}
		if i > 0 && d != first {
			m.t.Fatalf("%s: %+v\n%s: %+v", m.names[0], first, m.names[i], d)
		}
		first = d
		r.tickets = append(r.tickets, t)
	}
	m.judge(r, first)
	return first
}

// judge holds a decision against the log.
func (m *machine) judge(r *taken, got limit.Decision) {
	now := m.back[0].now()
	fits := true
	for i, d := range r.demands {
		if d.Kind == limit.Concurrency {
			fits = fits && m.inflight[d.Key] < d.Amount
			if got.Admitted {
				m.inflight[d.Key]++
			}
			continue
		}
		w := d.Window.Microseconds()
		bucket := (w + 59) / 60
		fits = fits && m.log.within(d.Key, now, w+bucket+60)+d.Weight <= d.Amount
		if !got.Admitted {
			continue
		}
		a := m.log.add(d.Key, now, d.Weight)
		if sum := m.log.within(d.Key, now, w); sum > d.Amount {
			m.t.Fatalf("%d admitted in %s, more than %d", sum, d.Window, d.Amount)
		}
		if d.Kind == limit.Tokens {
			r.log, r.tokens = append(r.log, a), append(r.tokens, i)
		}
	}
	if fits && !got.Admitted {
		m.t.Fatalf("%+v, and it would have fitted", got)
	}
	if got.Admitted {
		m.open = append(m.open, r)
	}
}

func (m *machine) pick() *taken {
	if len(m.open) == 0 {
		return nil
	}
	return m.open[rapid.IntRange(0, len(m.open)-1).Draw(m.t, "ticket")]
}

func (m *machine) settle() {
	r := m.pick()
	if r == nil {
		return
	}
	actual := rapid.Int64Range(0, 150).Draw(m.t, "actual")
	for _, t := range r.tickets {
		t.Settle(actual)
	}
	for i, a := range r.log {
		d := r.demands[r.tokens[i]]
		if actual > d.Weight {
			m.log.add(d.Key, m.back[0].now(), actual-d.Weight)
		} else if actual < d.Weight {
			a.weight = actual
			m.log.seen[d.Key] = m.log.last(d.Key, m.back[0].now())
		}
	}
	r.log = nil
}

func (m *machine) release() {
	r := m.pick()
	if r == nil {
		return
	}
	for _, t := range r.tickets {
		t.Release()
	}
	for _, d := range r.demands {
		if d.Kind == limit.Concurrency && !r.done {
			m.inflight[d.Key]--
		}
	}
	r.done = true
}
