package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"
)

// ErrNotBehind says that there is nothing to replay, as the sink has not come so far.
var ErrNotBehind = errors.New("the sink has not come so far yet: there is nothing to replay")

// ErrConfigured says that a sink cannot be forgotten, as it would come back.
var ErrConfigured = errors.New("it is configured: take it out of the configuration first")

var errClosed = errors.New("the engine is closed")

// Config is what an [Engine] needs. Store is required.
type Config struct {
	Store  Store
	Leases Leases       // nil: no other process uses the store
	Logger *slog.Logger // nil: discard

	// Pause is how long to wait after a number of failed attempts, and at least what
	// the receiver asked for. nil: an exponential back-off with full jitter.
	Pause func(attempts int, asked time.Duration) time.Duration
}

// Engine delivers the log to the sinks of the newest configuration, one worker for
// each, so that none waits for another.
type Engine struct {
	cfg   Config
	owner string // of this process's leases

	mu       sync.Mutex
	attached []*attachment      // newest last; its sinks count
	workers  map[string]*worker // the last one of each name, running or not
	gauges   map[string]*gauge
	closed   bool

	running atomic.Pointer[[]*worker] // those of workers, for Wake
}

// attachment is one configuration's wish.
type attachment struct {
	specs   map[string]Spec
	workers map[string]*worker // that were started for it
}

// New makes an engine without sinks.
func New(cfg Config) *Engine {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Pause == nil {
		cfg.Pause = pause
	}
	return &Engine{
		cfg: cfg, owner: uuid.Must(uuid.NewV4()).String(),
		workers: make(map[string]*worker), gauges: make(map[string]*gauge),
	}
}

// Attach makes these the sinks that are delivered to, instead of those of earlier
// calls, until detach is called. What is being delivered to a sink of the same name
// may be delivered first, so nothing arrives twice that need not. Attach does not
// wait for that; detach does, for some seconds at most, as its sinks may be closed
// afterwards. Whoever was attached before then counts again.
func (e *Engine) Attach(specs []Spec) (detach func(), err error) {
	added := &attachment{specs: make(map[string]Spec), workers: make(map[string]*worker)}
	for _, s := range specs {
		if s.Name == "" || s.Sink == nil || added.specs[s.Name].Sink != nil {
			return nil, fmt.Errorf("sink %q: has no name or no receiver, or is there twice", s.Name)
		}
		added.specs[s.Name] = s.withDefaults()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	e.attached = append(e.attached, added)
	e.settle()
	return sync.OnceFunc(func() { e.detach(added) }), nil
}

func (e *Engine) detach(gone *attachment) {
	e.mu.Lock()
	e.attached = slices.DeleteFunc(e.attached, func(a *attachment) bool { return a == gone })
	e.settle()
	e.mu.Unlock()
	for _, w := range gone.workers {
		<-w.done
	}
}

// settle has the workers run that the newest attachment wants, and no others.
func (e *Engine) settle() {
	newest := new(attachment)
	if n := len(e.attached); n > 0 {
		newest = e.attached[n-1]
	}
	for name, w := range e.workers {
		if newest.workers[name] != w {
			w.stop()
		}
	}
	var running []*worker
	for name, spec := range newest.specs {
		w := newest.workers[name]
		if w == nil || w.stopped() { // stopped: it had counted before, and counts again
			w = e.newWorker(spec, e.workers[name])
			newest.workers[name], e.workers[name] = w, w
			go w.run()
		}
		running = append(running, w)
	}
	e.running.Store(&running)
}

func (e *Engine) newWorker(spec Spec, before *worker) *worker {
	g := e.gauges[spec.Name]
	if g == nil {
		g = &gauge{s: Status{Name: spec.Name, State: Starting}}
		e.gauges[spec.Name] = g
	}
	w := &worker{
		spec: spec, store: e.cfg.Store, leases: e.cfg.Leases, owner: e.owner, gauge: g, pause: e.cfg.Pause,
		logger: e.cfg.Logger.With("sink", spec.Name), woken: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if before != nil {
		w.before = before.done
	}
	w.hard, w.stopHard = context.WithCancel(context.Background())
	w.soft, w.stopSoft = context.WithCancel(w.hard)
	return w
}

// Wake says that there is something new in the log. It does not wait.
func (e *Engine) Wake() {
	if running := e.running.Load(); running != nil {
		for _, w := range *running {
			w.wake()
		}
	}
}

// Names are the sinks that count, in order: those whose cursors hold back the
// deletion of events.
func (e *Engine) Names() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.attached); n > 0 {
		return slices.Sorted(maps.Keys(e.attached[n-1].specs))
	}
	return nil
}

// Status is how the sinks fare, in the order of their names, as far as this process
// knows: without asking the database.
func (e *Engine) Status() []Status {
	names := e.Names()
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]Status, 0, len(names))
	for _, name := range names {
		if g := e.gauges[name]; g != nil {
			all = append(all, g.status())
		}
	}
	return all
}

// Snapshot is [Engine.Status] with what is pending. Where the database does not say,
// as for a sink that has no place in the log yet, that is an error, and the rest is
// there all the same.
func (e *Engine) Snapshot(ctx context.Context) ([]Status, error) {
	all := e.Status()
	var failed []error
	for i := range all {
		b, err := e.cfg.Store.Backlog(ctx, all[i].Name)
		if err != nil {
			failed = append(failed, fmt.Errorf("sink %s: asking for what is pending: %w", all[i].Name, err))
			continue
		}
		all[i].Position, all[i].Pending, all[i].Dead = b.Position, b.Pending, b.Dead
		if !b.Oldest.IsZero() {
			all[i].Lag = max(0, time.Since(b.Oldest))
		}
	}
	return all, errors.Join(failed...)
}

// Replay has a sink get again what the log has of a time and later, on whichever
// node delivers to it. It moves a sink back only: forward would be to skip events.
func (e *Engine) Replay(ctx context.Context, sink string, from time.Time) error {
	b, err := e.cfg.Store.Backlog(ctx, sink)
	if err != nil {
		return fmt.Errorf("sink %s: asking for its place in the log: %w", sink, err)
	}
	if from.After(time.Now()) || b.Pending > 0 && from.After(b.Oldest) {
		return fmt.Errorf("sink %s: %w", sink, ErrNotBehind)
	}
	after, err := e.cfg.Store.RewindCursor(ctx, sink, from)
	if err != nil {
		return fmt.Errorf("sink %s: moving the cursor: %w", sink, err)
	}
	e.cfg.Logger.Info("a sink gets events again", "sink", sink, "from", from, "after", after)
	e.Wake()
	return nil
}

// Requeue has dead letters of a sink delivered again, all of them if none is named,
// and returns how many that are.
func (e *Engine) Requeue(ctx context.Context, sink string, ids ...int64) (int64, error) {
	n, err := e.cfg.Store.RequeueDead(ctx, sink, ids...)
	if err != nil {
		return 0, fmt.Errorf("sink %s: requeueing dead letters: %w", sink, err)
	}
	e.Wake()
	return n, nil
}

// Unregister forgets a sink that is configured no more, on any node: its place, which
// keeps events in the log for it, and its dead letters.
func (e *Engine) Unregister(ctx context.Context, sink string) error {
	if slices.Contains(e.Names(), sink) {
		return fmt.Errorf("sink %s: %w", sink, ErrConfigured)
	}
	if err := e.cfg.Store.DeleteCursor(ctx, sink); err != nil {
		return fmt.Errorf("sink %s: forgetting it: %w", sink, err)
	}
	return nil
}

// Close stops every worker and waits for them, some seconds at most. Nothing can
// be attached any more.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	all := e.attached
	e.attached = nil
	e.settle()
	e.mu.Unlock()
	for _, a := range all {
		for _, w := range a.workers {
			<-w.done
		}
	}
}
