package token

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// maxReloads bounds how often a look-up that lost a race against a change is
// repeated; each repetition begins after the change was committed.
const maxReloads = 3

// errSlow ends a request's wait for a look-up, not the look-up.
var errSlow = errors.New("the database is slow to answer")

// await is load as a request waits for it: a database that hangs is told to the
// client in good time, while the look-up goes on for whoever asks again.
func await[T any](ctx context.Context, a *Authority, id uuid.UUID, load func(context.Context, uuid.UUID) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.opts.WaitTimeout, errSlow)
	defer cancel()
	v, err := load(ctx, id)
	if errors.Is(err, errSlow) {
		a.asked(err)
	}
	return v, err
}

// loadToken asks the database, once for all requests that want the same token,
// and remembers the answer.
func (a *Authority) loadToken(ctx context.Context, id uuid.UUID) (*entry, error) {
	v, err := a.loads.do(ctx, a, floorKey{TokenChanged, id}, func(ctx context.Context) (any, error) {
		for range maxReloads {
			now := a.begin()
			rec, err := a.source.LoadToken(ctx, id)
			switch {
			case err != nil && a.source.NotFound(err):
				a.rememberUnknown(id, now)
				return nil, ErrUnknown
			case err != nil:
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			if e, ok := a.remember(rec, now); ok {
				return e, nil
			}
		}
		return nil, fmt.Errorf("%w: the token changed during every look-up", ErrUnavailable)
	})
	if err != nil {
		return nil, err
	}
	return v.(*entry), nil
}

func (a *Authority) loadProject(ctx context.Context, id uuid.UUID) (*projectEntry, error) {
	v, err := a.loads.do(ctx, a, floorKey{ProjectChanged, id}, func(ctx context.Context) (any, error) {
		for range maxReloads {
			now := a.begin()
			snapshot, err := a.source.LoadProject(ctx, id)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			a.mu.Lock()
			p, ok := a.rememberProject(snapshot, now)
			a.mu.Unlock()
			if ok {
				return p, nil
			}
		}
		return nil, fmt.Errorf("%w: the project changed during every look-up", ErrUnavailable)
	})
	if err != nil {
		return nil, err
	}
	return v.(*projectEntry), nil
}

// remember stores a loaded token and its project unless a newer version was
// announced meanwhile: a slow read must not bring a revoked token back. The
// check and the store are one step, under the lock that Changed takes.
func (a *Authority) remember(rec *Record, now moment) (*entry, bool) {
	e := &entry{token: rec.Token, rules: rec.Token.Policy.Compile(), text: rec.Token.ID.String(), projectVersion: rec.Project.Version}
	e.stamp(now, a.opts.TTL)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.overruled(e, now.Time) {
		return nil, false
	}
	if old, ok := a.tokens.GetIfPresent(rec.Token.ID); ok && old.token.Version > e.token.Version && !old.loadedAt.Before(now.Time) {
		return old, true // read later, though it came back sooner
	}
	a.tokens.Set(rec.Token.ID, e)
	_, _ = a.rememberProject(&rec.Project, now) // too old: the project is asked for by itself
	return e, true
}

// rememberProject needs a.mu.
func (a *Authority) rememberProject(s *project.Snapshot, now moment) (*projectEntry, bool) {
	if s.Version < a.floor(ProjectChanged, s.ID, now.Time) {
		return nil, false
	}
	if old, ok := a.projects.GetIfPresent(s.ID); ok && old.snapshot.Version > s.Version && !old.loadedAt.Before(now.Time) {
		return old, true
	}
	p := &projectEntry{snapshot: s, rules: s.Policy.Compile(), text: s.ID.String()}
	p.stamp(now, a.opts.TTL)
	a.projects.Set(s.ID, p)
	return p, true
}

// rememberUnknown notes that there is no such token, unless the read may be older
// than the row: it was announced, or everything read before is distrusted.
func (a *Authority) rememberUnknown(id uuid.UUID, now moment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens.Invalidate(id)
	a.sieve.stranger(now.Time)
	if a.floor(TokenChanged, id, now.Time) == 0 && now.epoch == a.epoch.Load() {
		a.unknown.Set(id, now.Add(a.opts.NegativeTTL))
	}
}

// overruled reports whether a newer version of the token than e was announced,
// or its project's tokens were revoked after e was read. It needs a.mu.
func (a *Authority) overruled(e *entry, now time.Time) bool {
	return e.token.Version < a.floor(TokenChanged, e.token.ID, now) ||
		e.projectVersion < a.floor(ProjectTokensRevoked, e.token.ProjectID, now)
}

func (a *Authority) believes(e *entry) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.overruled(e, time.Now())
}

func (a *Authority) believesProject(p *projectEntry) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.snapshot.Version >= a.floor(ProjectChanged, p.snapshot.ID, time.Now())
}

// Changed takes note of a committed change: older versions are dropped and
// will not be believed again. Whoever asks after it has returned is not served
// by a look-up that began before. It does not block on I/O.
func (a *Authority) Changed(c Change) {
	now := time.Now()
	a.mu.Lock()
	a.raiseFloor(floorKey{c.Kind, c.ID}, c.Version, now)
	switch c.Kind {
	case TokenChanged:
		a.tokens.Invalidate(c.ID)
		a.unknown.Invalidate(c.ID)
		a.loads.forget(func(key floorKey) bool { return key == floorKey{TokenChanged, c.ID} })
	case ProjectChanged:
		a.projects.Invalidate(c.ID)
		a.loads.forget(func(key floorKey) bool { return key == floorKey{ProjectChanged, c.ID} })
	case ProjectTokensRevoked:
		a.raiseFloor(floorKey{ProjectChanged, c.ID}, c.Version, now)
		a.projects.Invalidate(c.ID)
		for id, e := range a.tokens.All() {
			if e.token.ProjectID == c.ID {
				a.tokens.Invalidate(id)
			}
		}
		// Whose tokens are being looked up is not known yet: all of them.
		a.loads.forget(func(key floorKey) bool { return key.kind == TokenChanged || key.id == c.ID })
	}
	a.sweepFloors(now)
	a.mu.Unlock()
	if c.Revoked {
		a.generation.Add(1)
	}
}

// DistrustAll makes everything that is remembered stale, since changes may have
// been missed: a row is asked for again before it is used, and stands in only
// while the database is away. Who asks after DistrustAll has returned is not
// served by a look-up that began before. It does not block on I/O.
func (a *Authority) DistrustAll() {
	a.mu.Lock()
	a.epoch.Add(1)
	a.unknown.InvalidateAll()
	a.loads.forget(func(floorKey) bool { return true })
	a.mu.Unlock()
	a.generation.Add(1)
}

func (a *Authority) floor(kind ChangeKind, id uuid.UUID, now time.Time) int64 {
	if f, ok := a.floors[floorKey{kind, id}]; ok && now.Before(f.until) {
		return f.version
	}
	return 0
}

func (a *Authority) raiseFloor(key floorKey, version int64, now time.Time) {
	if f, ok := a.floors[key]; ok && f.version > version {
		version = f.version
	}
	a.floors[key] = floor{version: version, until: now.Add(floorTTL)}
}

// sweepFloors forgets floors that no look-up can be older than.
func (a *Authority) sweepFloors(now time.Time) {
	if now.Sub(a.swept) < floorTTL/2 {
		return
	}
	a.swept = now
	for key, f := range a.floors {
		if !now.Before(f.until) {
			delete(a.floors, key)
		}
	}
}

// loadGroup makes concurrent look-ups of one row one query. The query belongs
// to none of its callers: one that leaves does not fail the others.
type loadGroup struct {
	mu    sync.Mutex
	calls map[floorKey]*loadCall
}

type loadCall struct {
	done  chan struct{}
	value any
	err   error
}

func (g *loadGroup) do(ctx context.Context, a *Authority, key floorKey, load func(context.Context) (any, error)) (any, error) {
	g.mu.Lock()
	call := g.calls[key]
	if call == nil {
		call = &loadCall{done: make(chan struct{})}
		if !a.spawn(func() { g.run(a, key, call, load) }) {
			g.mu.Unlock()
			return nil, fmt.Errorf("%w: shutting down", ErrUnavailable)
		}
		if g.calls == nil {
			g.calls = make(map[floorKey]*loadCall)
		}
		g.calls[key] = call
	}
	g.mu.Unlock()
	select {
	case <-call.done:
		return call.value, call.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// run makes the query. A panic in the source is an outage for those who asked,
// as it would be on their own goroutines, not the end of the process.
func (g *loadGroup) run(a *Authority, key floorKey, call *loadCall, load func(context.Context) (any, error)) {
	ctx, cancel := context.WithTimeout(a.ctx, a.opts.LoadTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			call.err = a.panicked(r)
		}
		a.asked(call.err)
		g.mu.Lock()
		if g.calls[key] == call {
			delete(g.calls, key)
		}
		g.mu.Unlock()
		close(call.done)
	}()
	call.value, call.err = load(ctx)
}

// panicked is the outage that a panic in the source amounts to.
func (a *Authority) panicked(r any) error {
	a.opts.Logger.Error("looking up a token panicked", "panic", r, "stack", string(debug.Stack()))
	return fmt.Errorf("%w: panic: %v", ErrUnavailable, r)
}

// forget leaves the matching look-ups to those who wait for them already.
func (g *loadGroup) forget(match func(floorKey) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.calls, func(key floorKey, _ *loadCall) bool { return match(key) })
}
