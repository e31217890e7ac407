package adminapi_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// eventsRig is the host's side of the event log: the real store, and the real
// engine once there are sinks.
type eventsRig struct {
	db     *storage.DB
	engine *delivery.Engine // nil: no sinks
	sinks  map[string]*testSink
	behind bool // the backlog is too long to catch up with
}

func (r *eventsRig) CatchUp(ctx context.Context) (bool, error) {
	if r.behind {
		return false, nil
	}
	for {
		if n, err := r.db.RollUp(ctx, 100); err != nil || n < 100 {
			return err == nil, err
		}
	}
}

func (r *eventsRig) Sinks() []string {
	if r.engine == nil {
		return nil
	}
	return r.engine.Names()
}

func (r *eventsRig) Lag(ctx context.Context) (lag adminapi.EventLag, err error) {
	lag.Log = event.Stats{Published: 9, Committed: 5, Spilled: 2, Dropped: 1, Pending: 3, SpillBytes: 77, SpillEvents: 2, CommitLatency: 1500 * time.Microsecond}
	if r.engine != nil {
		if lag.Sinks, err = r.engine.Snapshot(ctx); err != nil {
			return lag, err
		}
	}
	if lag.Stored, err = r.db.EventStats(ctx); err != nil {
		return lag, err
	}
	if lag.RollUp, err = r.db.Backlog(ctx, storage.RollUpCursor); errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return lag, err
}

func (r *eventsRig) Replay(ctx context.Context, sink string, from time.Time, record func(*storage.Tx) error) (int64, error) {
	if from.After(time.Now()) {
		return 0, delivery.ErrNotBehind
	}
	if err := r.db.Update(ctx, record); err != nil {
		return 0, err
	}
	if err := r.engine.Replay(ctx, sink, from); err != nil {
		return 0, err
	}
	backlog, err := r.db.Backlog(ctx, sink)
	return backlog.Pending, err
}

func (r *eventsRig) Dead(ctx context.Context, sink string, after int64, limit int) ([]delivery.DeadLetter, error) {
	return r.db.DeadLetters(ctx, sink, after, limit)
}

func (r *eventsRig) Requeue(ctx context.Context, sink string, ids []int64, record func(*storage.Tx) error) (int64, error) {
	if backlog, err := r.db.Backlog(ctx, sink); err != nil || backlog.Dead == 0 {
		return 0, err
	}
	if err := r.db.Update(ctx, record); err != nil {
		return 0, err
	}
	return r.engine.Requeue(ctx, sink, ids...)
}

// testSink takes events, but for those of the model "poison" until it is cured.
type testSink struct {
	mu    sync.Mutex
	taken []uuid.UUID
	cured bool
}

func (s *testSink) Deliver(_ context.Context, events []delivery.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := map[int]error{}
	for i := range events {
		if events[i].Model == "poison" && !s.cured {
			refused[i] = errors.New("the receiver cannot read it")
		} else {
			s.taken = append(s.taken, events[i].ID)
		}
	}
	return delivery.Reject(refused)
}

func (s *testSink) cure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cured = true
}

func (s *testSink) count(id uuid.UUID) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.taken {
		if other == id {
			n++
		}
	}
	return n
}

// deliver begins to deliver to sinks of these names.
func (h *harness) deliver(names ...string) {
	h.t.Helper()
	engine := delivery.New(delivery.Config{Store: h.db, Logger: slog.New(slog.DiscardHandler)})
	h.events.engine, h.events.sinks = engine, map[string]*testSink{}
	var specs []delivery.Spec
	for _, name := range names {
		h.events.sinks[name] = &testSink{}
		specs = append(specs, delivery.Spec{Name: name, Sink: h.events.sinks[name], FromBeginning: true, Linger: -1})
	}
	if _, err := engine.Attach(specs); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(engine.Close)
}

// record writes events to the log.
func (h *harness) record(events ...*event.Event) {
	h.t.Helper()
	if err := h.db.AppendEvents(h.t.Context(), events); err != nil {
		h.t.Fatal(err)
	}
	if h.events.engine != nil {
		h.events.engine.Wake()
	}
}

// rejected waits until a sink has everything, and so many dead letters.
func (h *harness) rejected(sink string, n int64) {
	h.t.Helper()
	h.until("dead letters", func() bool {
		all, err := h.events.engine.Snapshot(h.t.Context())
		i := slices.IndexFunc(all, func(s delivery.Status) bool { return s.Name == sink })
		return err == nil && i >= 0 && all[i].Pending == 0 && all[i].Dead == n && all[i].State == delivery.Idle
	})
}

// until waits for a condition.
func (h *harness) until(what string, condition func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			h.t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// eventOf makes the event of a request that began at a time.
func eventOf(at time.Time, model string, change ...func(*event.Event)) *event.Event {
	id, err := uuid.NewV7AtTime(at)
	if err != nil {
		panic(err)
	}
	e := &event.Event{
		ID: id, Time: at.UTC().Truncate(time.Microsecond), Method: "POST", Endpoint: "/v1/chat/completions", Provider: "openai", Model: model,
		Status: 200, Outcome: "ok", Attempts: 1, Latency: 1500 * time.Microsecond, UsageSource: event.UsageProvider,
		InputTokens: event.Known(10), CachedTokens: event.Known(4), OutputTokens: event.Known(5), ReasoningTokens: event.Known(2), CostNanoUSD: event.Known(1_500_000),
	}
	for _, f := range change {
		f(e)
	}
	return e
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
