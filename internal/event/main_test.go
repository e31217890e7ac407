package event

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"go.uber.org/goleak"
)

// childDir makes this test binary another process, which appends events to a store
// that never answers, with this directory to spill to.
const childDir = "EVENT_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child appends an event for every line of its standard input, and says its id once
// it is durable.
func child(dir string) error {
	l, err := New(Config{Store: frozen{}, Dir: dir, Patience: time.Millisecond})
	if err != nil {
		return err
	}
	if err := l.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		e := newEvent()
		id := e.ID
		if err := l.AppendDurable(context.Background(), e); err != nil {
			return err
		}
		fmt.Println(id)
	}
	return errors.New("was not killed")
}

// frozen is a store that does not answer.
type frozen struct{}

func (frozen) AppendEvents(ctx context.Context, _ []*Event) error {
	<-ctx.Done()
	return ctx.Err()
}

// memory is a store that can be told to fail or to wait.
type memory struct {
	mu      sync.Mutex
	kept    map[uuid.UUID]Event
	order   []uuid.UUID
	batches []int
	err     error
	gate    chan struct{} // nil: open
}

func (m *memory) AppendEvents(ctx context.Context, events []*Event) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.kept == nil {
		m.kept = map[uuid.UUID]Event{}
	}
	for _, e := range events {
		if _, known := m.kept[e.ID]; !known {
			m.kept[e.ID] = *e
			m.order = append(m.order, e.ID)
		}
	}
	m.batches = append(m.batches, len(events))
	return nil
}

// fail has the store fail from now on, or work again.
func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// freeze has the store wait until the function it returns is called.
func (m *memory) freeze() (thaw func()) {
	gate := make(chan struct{})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate = gate
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.gate = nil
		close(gate)
	}
}

func (m *memory) ids() []uuid.UUID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]uuid.UUID(nil), m.order...)
}

func (m *memory) calls() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]int(nil), m.batches...)
}

func newEvent() *Event {
	e := Get()
	e.ID, e.Time = uuid.Must(uuid.NewV7()), time.Now().UTC().Truncate(time.Microsecond)
	e.Method, e.Endpoint, e.Model, e.Status, e.Outcome = "POST", "/v1/chat/completions", "gpt-4o", 200, "ok"
	return e
}

// rig is a log that runs.
type rig struct {
	*Log
	t     *testing.T
	store *memory
	out   *lines
	sent  []uuid.UUID
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, store: &memory{}, out: &lines{}}
	if cfg.Store == nil {
		cfg.Store = r.store
	}
	cfg.Logger = slog.New(slog.NewTextHandler(r.out, nil))
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	r.Log = l
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what matters was closed by the test
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

// add appends n events.
func (r *rig) add(n int) {
	for range n {
		e := newEvent()
		r.sent = append(r.sent, e.ID)
		r.Append(e)
	}
}

// complete checks that the store has every event that was sent.
func (r *rig) complete() {
	r.t.Helper()
	missing := 0
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	for _, id := range r.sent {
		if _, ok := r.store.kept[id]; !ok {
			missing++
		}
	}
	if missing > 0 || len(r.store.kept) != len(r.sent) {
		r.t.Errorf("of %d events %d are missing, %d are there", len(r.sent), missing, len(r.store.kept))
	}
}

// eventually polls until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not for a minute: %s", what)
		}
	}
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}
