package fill_test

import (
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

// acts are what may happen, the frequent ones more than once.
var acts = []string{
	"join", "join", "header", "header", "append", "append", "append", "append more", "append more",
	"read", "read", "read", "read", "read on", "read on", "leave", "end",
}

// bubble is a test that is not asked for its deadline, which it has not.
type bubble struct{ *testing.T }

// TestHistories has random requests join, read, lag and leave while answers come,
// fail and are purged, and compares with a model after each step.
func TestHistories(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 10 { // times the 100 that are the default: they are short
			rapid.Check(bubble{t}, history)
		}
	})
}

func history(rt *rapid.T) {
	w := newWorld()
	defer w.end()
	w.join()
	for range rapid.IntRange(5, 80).Draw(rt, "steps") {
		w.check(rt)
		w.act(rt, rapid.SampledFrom(acts).Draw(rt, "act"))
	}
	w.check(rt)
}

func (w *world) act(rt *rapid.T, what string) {
	idle := func(p *party) bool { return !p.pending }
	headed := func(a *answer) bool { return a.headed }
	switch what {
	case "join":
		w.join()
	case "read":
		if p := w.somebody(rt, idle); p != nil {
			p.order()
		}
	case "read on":
		if p := w.somebody(rt, idle); p != nil {
			w.readOn(rt, p)
		}
	case "leave":
		if p := w.somebody(rt, func(*party) bool { return true }); p != nil {
			w.leave(p)
		}
	case "header":
		if a := w.some(rt, func(a *answer) bool { return !a.headed }); a != nil {
			a.header(rapid.IntRange(0, 4).Draw(rt, "storable") > 0)
		}
	case "append":
		if a := w.some(rt, headed); a != nil {
			a.append(rapid.IntRange(1, 12).Draw(rt, "bytes"))
		}
	case "append more":
		if a := w.some(rt, headed); a != nil {
			a.append(rapid.IntRange(1, maxObject).Draw(rt, "bytes"))
		}
	case "end":
		w.finish(rt)
	}
}

// readOn reads until there is nothing more for now.
func (w *world) readOn(rt *rapid.T, p *party) {
	for !p.pending && !p.over {
		p.order()
		w.check(rt)
	}
}

func (w *world) finish(rt *rapid.T) {
	how := rapid.SampledFrom([]string{"close", "fail", "discard", "forget"}).Draw(rt, "how")
	if how == "forget" {
		w.g.Forget(nil)
		for _, a := range w.answers {
			a.kept = false
			a.unread()
		}
		return
	}
	a := w.some(rt, func(a *answer) bool { return a.headed || how != "close" })
	switch {
	case a == nil:
	case how == "close":
		a.up.begin((*fill.Writer).Close)
		synctest.Wait()
		if err := <-a.up.errs; err != nil {
			rt.Fatal(err)
		}
		a.up.busy = false
		a.up.steps <- nil
		a.ended, a.kept = true, false
	case how == "fail":
		w.fail(a)
	case how == "discard":
		a.up.begin(func(w *fill.Writer) error { w.Discard(); return nil })
		a.kept = false
		a.unread()
	}
}

// somebody is a reader that has not left, nil if there is none.
func (w *world) somebody(rt *rapid.T, which func(*party) bool) *party {
	var some []*party
	for _, p := range w.parties {
		if p.err != errLeft && !p.over && which(p) {
			some = append(some, p)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[rapid.IntRange(0, len(some)-1).Draw(rt, "reader")]
}

// some is an answer under way whose writer has time, nil if there is none.
func (w *world) some(rt *rapid.T, which func(*answer) bool) *answer {
	var some []*answer
	for _, a := range w.answers {
		if !a.ended && !a.up.busy && which(a) {
			some = append(some, a)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[rapid.IntRange(0, len(some)-1).Draw(rt, "answer")]
}

func (w *world) check(rt *rapid.T) {
	synctest.Wait()
	for _, a := range w.answers {
		a.settle(rt)
	}
	w.collect(rt)
	for _, p := range w.parties {
		p.check(rt)
	}
	for _, a := range w.answers {
		a.checkMemory(rt)
		if cancelled := a.up.ctx.Err() != nil; !a.ended && cancelled || a.cancelled && !cancelled {
			rt.Fatalf("cancelled: %v, want %v", cancelled, a.cancelled)
		}
		if a.attempts > 2 {
			rt.Fatalf("%d attempts", a.attempts)
		}
	}
	if n := w.u.starts.Load(); n != w.starts {
		rt.Fatalf("%d starts, want %d", n, w.starts)
	}
}
