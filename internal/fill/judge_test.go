package fill_test

import (
	"errors"
	"io"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

// collect takes what the readers have got, and has it judged unless rt is nil.
func (w *world) collect(rt *rapid.T) {
	for _, p := range w.parties {
		select {
		case res := <-p.results:
			p.pending = false
			if rt != nil {
				p.judge(rt, res)
			}
		default:
		}
	}
}

// judge compares with the model what a reader has got.
func (p *party) judge(rt *rapid.T, res result) {
	a := p.a
	p.over = res.err != nil
	switch {
	case res.err == nil && res.header:
		if p.begun = true; !a.headed || !p.leads && !a.ended && fill.Total(a.up.w) == 0 {
			rt.Fatal("a header that another one may replace")
		}
	case res.err == nil:
		for i, b := range res.data {
			if b != content(a.seed, len(p.got)+i) {
				rt.Fatalf("byte %d is of another answer, or in another place", len(p.got)+i)
			}
		}
		p.got, p.inHand = append(p.got, res.data...), len(res.data)
		if len(res.data) == 0 || len(p.got) > a.written {
			rt.Fatalf("got %d bytes of %d, %d of them now", len(p.got), a.written, len(res.data))
		}
	case p.err != nil:
		if !errors.Is(res.err, p.err) {
			rt.Fatalf("got %v, want %v", res.err, p.err)
		}
	case res.err == io.EOF:
		if !a.ended || a.err != nil || len(p.got) != a.written {
			rt.Fatalf("an end at %d of %d bytes (ended %v, %v)", len(p.got), a.written, a.ended, a.err)
		}
	case a.ended && a.err != nil:
		if !errors.Is(res.err, a.err) || p.begun && int64(len(p.got)) != fill.Total(a.up.w) {
			rt.Fatalf("got %v behind %d bytes", res.err, len(p.got))
		}
	default:
		rt.Fatalf("got %v for no reason", res.err)
	}
}

// check finds a reader that waits for what has come.
func (p *party) check(rt *rapid.T) {
	if !p.pending {
		return
	}
	a := p.a
	total := fill.Total(a.up.w)
	ready := total > int64(len(p.got))
	if !p.begun {
		ready = a.headed && (p.leads || total > 0)
	}
	if ready || a.ended || p.err != nil {
		rt.Fatalf("a reader with %d of %d bytes waits (begun %v, ended %v, %v)", len(p.got), total, p.begun, a.ended, p.err)
	}
}

// settle brings the model to where the fill has got by itself, and finds a writer
// that waits for nobody, and readers that were cut off without need.
func (a *answer) settle(rt *rapid.T) {
	total := fill.Total(a.up.w)
	if a.kept && total > maxObject {
		a.kept = false
		a.unread()
	}
	front := a.front()
	for _, p := range a.readers {
		if a.ended || p.err != nil || fill.Attached(p.r) {
			continue
		}
		if total-max(p.acked(), p.joined) <= maxLag || p.acked() >= front {
			rt.Fatalf("a reader at %d of %d bytes was cut off, the first at %d", p.acked(), total, front)
		}
		p.err = fill.ErrTooSlow
		a.readers = without(a.readers, p)
	}
	if !a.up.busy {
		return
	}
	select {
	case <-a.up.errs:
		a.up.busy = false
	default:
		if len(a.readers) == 0 || total-front <= window {
			rt.Fatalf("the writer waits at %d bytes, the first of %d readers at %d", total, len(a.readers), front)
		}
	}
}

func (a *answer) front() (front int64) {
	for _, p := range a.readers {
		front = max(front, p.acked())
	}
	return front
}

// checkMemory holds the fill to what it has to keep: all of what may be stored, else
// what the slowest has not read, and of that no more than the limits.
func (a *answer) checkMemory(rt *rapid.T) {
	total, front := fill.Total(a.up.w), a.front()
	need, inHand := int64(0), 0
	if a.kept {
		need = total
	}
	for _, p := range a.readers {
		need = max(need, total-p.acked())
		inHand += p.inHand
		if lag := total - max(p.acked(), p.joined); lag > maxLag && p.acked() < front {
			rt.Fatalf("a reader is %d bytes behind and not cut off", lag)
		}
	}
	if total > a.seen && len(a.readers) > 0 && total-front > window+maxBlock {
		rt.Fatalf("written %d bytes, the first reader is at %d", total, front)
	}
	a.seen = total
	if limit := need*4/3 + 2*maxBlock + int64(inHand); int64(fill.Retained(a.up.w)) > limit {
		rt.Fatalf("%d bytes are kept, of %d that are needed and %d in hand", fill.Retained(a.up.w), need, inHand)
	}
	if need > maxObject+maxLag+maxBlock {
		rt.Fatalf("%d bytes are needed", need)
	}
}
