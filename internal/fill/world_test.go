package fill_test

import (
	"context"
	"testing/synctest"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

// Limits that a history of some dozen steps gets to.
const (
	maxObject = 64
	maxLag    = 16
	window    = 4
	maxBlock  = 8
)

// answer is the model of a fill.
type answer struct {
	up        *run // of the current attempt
	seed      byte // of its body, which is unlike any other's
	written   int  // bytes of it that were handed to the writer
	attempts  int
	headed    bool
	storable  bool
	kept      bool // not forgotten, discarded, too long or another's alone
	ended     bool
	err       error // why, if not properly
	cancelled bool
	readers   []*party
	seen      int64 // its length at the last check
}

// party is the model of a reader. It reads when it is told to.
type party struct {
	a       *answer
	r       *fill.Reader
	cancel  context.CancelFunc
	orders  chan struct{}
	results chan result
	pending bool
	begun   bool // it has the header
	over    bool // it has got its end
	leads   bool
	got     []byte
	inHand  int // of got: what it was given last
	joined  int64
	err     error // the last it will get; errLeft: it has left
}

type result struct {
	header bool
	data   []byte
	err    error
}

// world is one key's history.
type world struct {
	g       *fill.Group
	u       *upstream
	answers []*answer
	parties []*party
	starts  int64
}

func newWorld() *world {
	return &world{u: &upstream{}, g: fill.NewSmall(fill.Options{MaxObject: maxObject, MaxLag: maxLag, Window: window}, 4, maxBlock, 2)}
}

func (w *world) end() {
	w.g.Close()
	for _, p := range w.parties {
		p.cancel()
		if p.err != errLeft {
			close(p.orders)
		}
	}
	synctest.Wait()
}

func content(seed byte, offset int) byte { return seed*31 + byte(offset)*7 }

// joinable is the fill that a request has to join now, if any.
func (w *world) joinable() *answer {
	for _, a := range w.answers {
		if a.kept && !a.ended {
			return a
		}
	}
	return nil
}

func (w *world) join() {
	want := w.joinable()
	ctx, cancel := context.WithCancel(context.Background())
	p := &party{cancel: cancel, orders: make(chan struct{}), results: make(chan result, 1)}
	var role fill.Role
	p.r, role = w.g.Join(key, w.u.start())
	go p.work(ctx)
	p.leads = role == fill.Leader
	if p.leads {
		w.starts++
		w.answers = append(w.answers, &answer{kept: true})
		p.a = w.answers[len(w.answers)-1]
		w.attempt(p.a)
	} else {
		p.a = want
		p.joined = fill.Total(want.up.w)
	}
	if p.leads == (want != nil) {
		panic("joined the wrong fill")
	}
	p.a.readers = append(p.a.readers, p)
	w.parties = append(w.parties, p)
}

func (w *world) attempt(a *answer) {
	a.up = w.u.last()
	a.attempts++
	a.seed = byte(w.u.starts.Load())
}

func (p *party) work(ctx context.Context) {
	defer p.r.Close()
	header := true
	for range p.orders {
		var res result
		if header {
			res.header = true
			_, res.err = p.r.Header(ctx)
			header = res.err != nil
		} else {
			var c fill.Chunk
			c, res.err = p.r.Next(ctx)
			res.data = c.Data
		}
		p.results <- res
	}
}

// order has the reader read once, which may have to wait.
func (p *party) order() {
	p.pending = true
	if p.begun {
		p.inHand = 0
	}
	p.orders <- struct{}{}
}

func (w *world) leave(p *party) {
	p.cancel()
	synctest.Wait()
	w.collect(nil)
	p.err = errLeft
	close(p.orders)
	p.a.drop(p)
}

// drop is what follows when a reader has gone from its answer.
func (a *answer) drop(p *party) {
	for i, other := range a.readers {
		if other == p {
			a.readers = append(a.readers[:i], a.readers[i+1:]...)
			break
		}
	}
	a.unread()
}

// unread cancels an answer that nobody needs.
func (a *answer) unread() {
	if !a.ended && len(a.readers) == 0 && (!a.kept || a.headed && !a.storable) {
		a.cancelled, a.ended, a.kept = true, true, false
	}
}

func (a *answer) header(storable bool) {
	a.headed, a.storable = true, storable
	if !storable {
		a.kept = false
		for _, p := range append([]*party(nil), a.readers...) {
			if !p.leads {
				p.err = fill.ErrNotShared
				a.drop(p)
			}
		}
	}
	a.up.begin(func(w *fill.Writer) error {
		_ = w.Header(fill.Head{Storable: storable}) // it may have cancelled itself thereby
		return nil
	})
	a.unread()
}

func (a *answer) append(n int) {
	p := make([]byte, n)
	for i := range p {
		p[i] = content(a.seed, a.written+i)
	}
	a.written += n
	a.up.begin(func(w *fill.Writer) error { _, err := w.Write(p); return err })
}

func (w *world) fail(a *answer) {
	again := fill.Total(a.up.w) == 0 && a.attempts == 1
	up := a.up
	up.begin(func(w *fill.Writer) error { w.Fail(errLost); return nil })
	synctest.Wait()
	<-up.errs
	up.busy = false
	up.steps <- nil
	if again {
		for _, p := range append([]*party(nil), a.readers...) {
			if p.leads {
				p.err = errLost
				a.readers = without(a.readers, p)
			}
		}
	}
	if !again || len(a.readers) == 0 {
		a.ended, a.err, a.kept = true, errLost, false
		return
	}
	a.headed, a.storable = false, false
	w.starts++
	w.attempt(a)
	for _, p := range a.readers {
		p.leads = p.r.Role() == fill.Leader
	}
}

func without(readers []*party, p *party) (rest []*party) {
	for _, other := range readers {
		if other != p {
			rest = append(rest, other)
		}
	}
	return rest
}

// acked is how much the fill knows the reader is done with.
func (p *party) acked() int64 { return int64(len(p.got) - p.inHand) }
