package ledger_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// step is one thing that happens.
type step struct {
	kind   string
	node   int
	which  int   // account, or flight
	amount int64 // of the hold, or the limit
	cost   int64 // below 0: unknown
	pause  time.Duration
	both   bool
}

func drawStep(t *rapid.T) step {
	return step{
		kind: rapid.SampledFrom([]string{"hold", "hold", "hold", "hold", "settle", "settle", "settle", "release", "again", "pause", "crash",
			"cut", "lost", "slow", "limit", "reap", "clock", "recall"}).Draw(t, "kind"),
		node:   rapid.IntRange(0, 2).Draw(t, "node"),
		which:  rapid.IntRange(0, 7).Draw(t, "which"),
		amount: rapid.Int64Range(0, 400).Draw(t, "amount"),
		cost:   rapid.Int64Range(-50, 400).Draw(t, "cost"),
		pause:  time.Duration(rapid.SampledFrom([]int64{0, 1, 100, 1000, 3000, 20_000, 40_000, 100_000}).Draw(t, "pause")) * time.Millisecond,
		both:   rapid.Bool().Draw(t, "both"),
	}
}

// TestProperty has three nodes crash, lose commits and limits change. What providers
// bill is always covered by what the database has as spent, forfeited or leased, and
// nothing is granted beyond a limit.
func TestProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 60).Draw(rt, "steps")
		calm := rapid.Bool().Draw(rt, "calm") // nobody is away for long: then nothing is lost either
		var problem string
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, calm)
			defer w.close()
			for i, s := range steps {
				w.do(&s)
				if problem = w.check(); problem != "" {
					problem = fmt.Sprintf("after step %d, %+v: %s", i, s, problem)
					return
				}
			}
			if problem = w.finish(); problem != "" {
				problem = "at the end: " + problem
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// world is three nodes, one database, and what providers have billed.
type world struct {
	t       *testing.T
	book    *book
	nodes   []*node
	dead    []*node
	flights []*flight
	billed  map[ledger.Key]int64
	limits  []ledger.Limit
	highest map[ledger.Account]int64
	calm    bool
}

type node struct {
	*ledger.Ledger
	*faulty
}

// faulty is a node's way to the database.
type faulty struct {
	*book
	mu   sync.Mutex
	away bool
	lose int           // that many commits are not heard of
	slow time.Duration // half of what a transaction takes
}

func (f *faulty) ApplyLedger(ctx context.Context, holder uuid.UUID, ttl time.Duration, ops []ledger.Op, results []ledger.Result) (int64, error) {
	f.mu.Lock()
	away, slow := f.away, f.slow
	f.mu.Unlock()
	if away {
		return 0, errAway
	}
	time.Sleep(slow)
	now, err := f.book.ApplyLedger(ctx, holder, ttl, ops, results)
	time.Sleep(slow)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.lose > 0 {
		f.lose--
		clear(results)
		return 0, errAway
	}
	return now, err
}

func (f *faulty) ReapLedger(ctx context.Context, grace time.Duration, limit int) ([]ledger.Forfeit, error) {
	f.mu.Lock()
	away := f.away
	f.mu.Unlock()
	if away {
		return nil, errAway
	}
	return f.book.ReapLedger(ctx, grace, limit)
}

// flight is a request under way.
type flight struct {
	node   *node
	ticket ledger.Ticket
}

func newWorld(t *testing.T, calm bool) *world {
	w := &world{t: t, book: newBook(), billed: make(map[ledger.Key]int64), highest: make(map[ledger.Account]int64), calm: calm}
	for i, p := range []project.Period{project.Total, project.Day} {
		a := account(ledger.Money, p)
		a.Scope = []ledger.Scope{ledger.Token, ledger.Project}[i]
		w.limits = append(w.limits, ledger.Limit{Account: a, Amount: 1500, Version: 1})
		w.highest[a] = 1500
	}
	for range 3 {
		w.nodes = append(w.nodes, w.node())
	}
	return w
}

func (w *world) node() *node {
	f := &faulty{book: w.book}
	l, err := ledger.New(ledger.Config{Store: f})
	if err != nil {
		w.t.Fatal(err)
	}
	l.Start()
	return &node{l, f}
}

func (w *world) do(s *step) {
	n := w.nodes[s.node]
	switch s.kind {
	case "hold":
		demands := []ledger.Demand{{Limit: w.limits[s.which%2], Amount: s.amount}}
		if s.both {
			demands = append(demands, ledger.Demand{Limit: w.limits[(s.which+1)%2], Amount: s.amount})
		}
		f := &flight{node: n}
		if r, err := n.Hold(w.t.Context(), demands, &f.ticket); err == nil && r.Kind == ledger.Admitted {
			w.flights = append(w.flights, f)
		}
	case "settle", "release", "again":
		if len(w.flights) == 0 {
			return
		}
		i := s.which % len(w.flights)
		f := w.flights[i]
		if s.kind == "again" {
			before := f.ticket.Keys()
			if r, err := f.node.Again(w.t.Context(), &f.ticket); err == nil && r.Kind == ledger.Admitted {
				w.bill(before, ledger.Unknown)
			}
			return
		}
		w.flights = append(w.flights[:i], w.flights[i+1:]...)
		if s.kind == "release" {
			f.ticket.Release()
			return
		}
		w.bill(f.ticket.Keys(), s.cost)
		f.ticket.Settle(within(f.ticket.Held(), s.cost))
	case "crash":
		if w.calm {
			return
		}
		n.mu.Lock()
		n.away = true
		n.mu.Unlock()
		var left []*flight
		for _, f := range w.flights {
			if f.node == n {
				w.bill(f.ticket.Keys(), ledger.Unknown) // their providers bill them all the same
			} else {
				left = append(left, f)
			}
		}
		w.flights = left
		w.dead, w.nodes[s.node] = append(w.dead, n), w.node()
	case "cut":
		n.mu.Lock()
		n.away = !n.away && !w.calm
		n.mu.Unlock()
	case "lost":
		n.mu.Lock()
		n.lose = int(s.amount % 3)
		n.mu.Unlock()
	case "slow":
		n.mu.Lock()
		n.slow = min(s.pause, time.Second)
		n.mu.Unlock()
	case "limit":
		l := &w.limits[s.which%2]
		l.Version++
		l.Amount = 3 * s.amount
		if w.calm { // without it there is a highest limit
			l.Amount = 1500
		}
		w.highest[l.Account] = max(w.highest[l.Account], l.Amount)
	case "clock":
		w.book.mu.Lock()
		w.book.ahead += 5 * time.Hour
		w.book.mu.Unlock()
		if w.calm {
			w.book.mu.Lock()
			w.book.ahead -= 5 * time.Hour
			w.book.mu.Unlock()
		}
	case "recall":
		n.Recall(w.limits[s.which%2].Account)
	case "reap":
		_, _ = n.ReapLedger(w.t.Context(), 30*time.Second, 100)
	case "pause":
		time.Sleep(s.pause)
	}
	synctest.Wait()
}

// within is a cost that is no more than what was held.
func within(held, cost int64) int64 {
	if cost < 0 {
		return ledger.Unknown
	}
	return min(cost, held)
}

func (w *world) bill(held map[ledger.Key]int64, cost int64) {
	for k, amount := range held {
		if c := within(amount, cost); c >= 0 {
			amount = c
		}
		w.billed[k] += amount
	}
}

// check looks whether everything that is or may be billed is covered.
func (w *world) check() string {
	may := make(map[ledger.Key]int64)
	for k, n := range w.billed {
		may[k] += n
	}
	for _, f := range w.flights {
		for k, n := range f.ticket.Keys() {
			may[k] += n
		}
	}
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	if w.book.broken != "" {
		return w.book.broken
	}
	for k, row := range w.book.rows { // nobody billed more than was held
		if n := row.Spent + row.Forfeited + row.Leased; n > w.highest[k.Account] {
			return fmt.Sprintf("%d are taken, beyond %d: %+v", n, w.highest[k.Account], row)
		}
	}
	for k, n := range may {
		row := w.book.rows[k]
		if row == nil || n > row.Spent+row.Forfeited+row.Leased {
			return fmt.Sprintf("%d may be billed: %+v", n, row)
		}
	}
	return ""
}

// finish settles everything, and waits until the reaper has looked.
func (w *world) finish() string {
	for _, f := range w.flights {
		w.bill(f.ticket.Keys(), 3)
		f.ticket.Settle(within(f.ticket.Held(), 3))
	}
	w.flights = nil
	for _, n := range w.nodes {
		n.mu.Lock()
		n.away, n.lose, n.slow = false, 0, 0
		n.mu.Unlock()
	}
	time.Sleep(3 * time.Minute)
	if problem := w.check(); problem != "" {
		return problem
	}
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	for k, row := range w.book.rows {
		if row.Leased != 0 {
			return fmt.Sprintf("leases are left: %+v", row)
		}
		if w.calm && (row.Forfeited != 0 || row.Spent != w.billed[k]) {
			return fmt.Sprintf("%d was billed: %+v", w.billed[k], row)
		}
	}
	return ""
}

func (w *world) close() {
	for _, n := range append(w.nodes, w.dead...) {
		_ = n.Close(context.Background()) // some cannot return anything
	}
}
