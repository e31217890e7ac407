package delivery_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
)

// memory is a log in memory, shared by the nodes of a test.
type memory struct {
	mu       sync.Mutex
	log      []delivery.Entry
	cursors  map[string]int64
	dead     []delivery.DeadLetter
	requeued map[int64]bool
	leases   map[string]held
	fails    func(call string) error // nil: nothing does
}

type held struct {
	owner string
	until time.Time
}

func newMemory(events int) *memory {
	m := &memory{cursors: make(map[string]int64), requeued: make(map[int64]bool), leases: make(map[string]held)}
	m.add(events)
	return m
}

// add writes events. Their positions have gaps, as those of rolled back
// transactions.
func (m *memory) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		m.log = append(m.log, delivery.Entry{
			Seq:   int64(3*len(m.log) + 1),
			Event: delivery.Event{ID: uuid.Must(uuid.NewV7()), Time: time.Now()},
		})
	}
}

func (m *memory) fail(call string) error {
	if m.fails == nil {
		return nil
	}
	return m.fails(call)
}

func (m *memory) ids() []uuid.UUID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []uuid.UUID
	for _, e := range m.log {
		ids = append(ids, e.Event.ID)
	}
	return ids
}

func (m *memory) deadIDs(t *testing.T, sink string) []uuid.UUID {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []uuid.UUID
	for _, d := range m.dead {
		if d.Sink != sink || d.Reason == "" || d.Attempts < 1 && d.Reason[:5] != "given" || d.Time.IsZero() {
			t.Errorf("dead letter %+v", d)
		}
		ids = append(ids, d.Event.ID)
	}
	return ids
}

func (m *memory) ReadEvents(_ context.Context, after int64, limit int) ([]delivery.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("read"); err != nil {
		return nil, err
	}
	var found []delivery.Entry
	for _, e := range m.log {
		if e.Seq > after && len(found) < limit {
			found = append(found, e)
		}
	}
	return found, nil
}

func (m *memory) OpenCursor(_ context.Context, sink string, fromBeginning bool) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("open"); err != nil {
		return 0, err
	}
	at, ok := m.cursors[sink]
	if !ok && !fromBeginning && len(m.log) > 0 {
		at = m.log[len(m.log)-1].Seq
	}
	m.cursors[sink] = at
	return at, nil
}

func (m *memory) AdvanceCursor(_ context.Context, sink string, from, to int64, dead []delivery.DeadLetter) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("advance"); err != nil {
		return false, err
	}
	if m.cursors[sink] != from {
		return false, nil
	}
	m.cursors[sink] = to
	for _, d := range dead {
		d.ID, d.Sink = int64(len(m.dead)+1), sink
		m.dead = append(m.dead, d)
	}
	return true, nil
}

func (m *memory) TakeRequeued(_ context.Context, sink string, limit int) ([]delivery.DeadLetter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []delivery.DeadLetter
	for _, d := range m.dead {
		if d.Sink == sink && m.requeued[d.ID] && len(found) < limit {
			found = append(found, d)
		}
	}
	return found, nil
}

func (m *memory) SettleRequeued(_ context.Context, sink string, delivered []int64, failed []delivery.DeadLetter) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = slices.DeleteFunc(m.dead, func(d delivery.DeadLetter) bool { return d.Sink == sink && slices.Contains(delivered, d.ID) })
	for _, f := range failed {
		i := slices.IndexFunc(m.dead, func(d delivery.DeadLetter) bool { return d.ID == f.ID })
		if i < 0 {
			return errors.New("no such letter")
		}
		m.dead[i] = f
		m.requeued[f.ID] = false
	}
	return nil
}

func (m *memory) Backlog(_ context.Context, sink string) (delivery.Backlog, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := delivery.Backlog{Position: m.cursors[sink]}
	for _, e := range m.log {
		if e.Seq > b.Position {
			if b.Pending++; b.Oldest.IsZero() {
				b.Oldest = e.Event.Time
			}
		}
	}
	for _, d := range m.dead {
		if d.Sink == sink {
			b.Dead++
		}
	}
	return b, m.fail("backlog")
}

func (m *memory) RewindCursor(_ context.Context, sink string, from time.Time) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("rewind"); err != nil {
		return 0, err
	}
	if _, ok := m.cursors[sink]; !ok {
		return 0, errors.New("not found")
	}
	var before int64
	for _, e := range m.log {
		if !e.Event.Time.Before(from) {
			break
		}
		before = e.Seq
	}
	m.cursors[sink] = before
	return before, nil
}

func (m *memory) RequeueDead(_ context.Context, sink string, ids ...int64) (n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.dead {
		if d.Sink == sink && (len(ids) == 0 || slices.Contains(ids, d.ID)) {
			m.requeued[d.ID] = true
			n++
		}
	}
	return n, m.fail("requeue")
}

func (m *memory) DeleteCursor(_ context.Context, sink string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.cursors, sink)
	return m.fail("delete")
}

func (m *memory) TryLease(_ context.Context, name, owner string, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail("lease"); err != nil {
		return false, err
	}
	if h := m.leases[name]; h.owner != owner && time.Now().Before(h.until) {
		return false, nil
	}
	m.leases[name] = held{owner, time.Now().Add(ttl)}
	return true, nil
}

func (m *memory) ReleaseLease(_ context.Context, name, owner string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leases[name].owner == owner {
		delete(m.leases, name)
	}
	return nil
}

// recorder is a sink that remembers what it took.
type recorder struct {
	mu      sync.Mutex
	got     []uuid.UUID
	calls   []time.Time
	sizes   []int
	answer  func(ctx context.Context, call int, events []delivery.Event) error // nil: takes everything
	running bool
}

func (r *recorder) Deliver(ctx context.Context, events []delivery.Event) error {
	r.mu.Lock()
	if r.running {
		panic("called while it runs")
	}
	r.running = true
	r.calls, r.sizes = append(r.calls, time.Now()), append(r.sizes, len(events))
	call := len(r.calls)
	r.mu.Unlock()
	var err error
	if r.answer != nil {
		err = r.answer(ctx, call, events)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	var some *delivery.RejectedError
	if err != nil && !errors.As(err, &some) {
		return err
	}
	for i, e := range events {
		if some == nil || some.Events[i] == nil {
			r.got = append(r.got, e.ID)
		}
	}
	return err
}

func (r *recorder) ids() []uuid.UUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// poison refuses the events at these places of the log, in the given way.
func poison(m *memory, how func(error) error, places ...int) func(context.Context, int, []delivery.Event) error {
	ids := m.ids()
	return func(_ context.Context, _ int, events []delivery.Event) error {
		for _, e := range events {
			for _, p := range places {
				if e.ID == ids[p] {
					return how(errors.New("poison"))
				}
			}
		}
		return nil
	}
}
