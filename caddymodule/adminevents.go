package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// catchUpFor is how long a question about usage may spend on what is not summed up
// yet: usually a few events, and a long backlog after an outage alone.
const catchUpFor = 2 * time.Second

// adminEvents is the management API's view of a database's event log and sinks.
type adminEvents struct {
	store  func() *storage.DB      // nil: not opened yet
	engine func() *delivery.Engine // nil: no sink was ever configured
	stats  func() event.Stats      // of this process's event log
}

func (d *database) adminEvents() *adminEvents {
	return &adminEvents{store: d.store.Load, engine: d.sinks.engine.Load, stats: d.eventStats}
}

var errNoStore = fmt.Errorf("%w: it has not been opened yet", storage.ErrUnreachable)

func (a *adminEvents) opened() (*storage.DB, error) {
	if store := a.store(); store != nil {
		return store, nil
	}
	return nil, errNoStore
}

// CatchUp implements [adminapi.Events]. The roll-up in the background may be doing
// the same, here or on another node: each event counts once all the same.
func (a *adminEvents) CatchUp(ctx context.Context) (complete bool, err error) {
	store, err := a.opened()
	if err != nil {
		return false, err
	}
	for until := time.Now().Add(catchUpFor); ; {
		taken, err := store.RollUp(ctx, rollUpBatch)
		if err != nil || taken < rollUpBatch {
			return err == nil, err
		}
		if time.Now().After(until) {
			return false, nil
		}
	}
}

// Sinks implements [adminapi.Events].
func (a *adminEvents) Sinks() []string {
	if engine := a.engine(); engine != nil {
		return engine.Names()
	}
	return nil
}

// Lag implements [adminapi.Events].
func (a *adminEvents) Lag(ctx context.Context) (lag adminapi.EventLag, err error) {
	lag.Log = a.stats()
	if engine := a.engine(); engine != nil {
		lag.Sinks = engine.Status()
	}
	store, err := a.opened()
	if err != nil {
		return lag, err
	}
	for i := range lag.Sinks {
		s := &lag.Sinks[i]
		b, err := backlog(ctx, store, s.Name)
		if err != nil {
			return lag, err
		}
		s.Position, s.Pending, s.Dead = b.Position, b.Pending, b.Dead
		if !b.Oldest.IsZero() {
			s.Lag = max(0, time.Since(b.Oldest))
		}
	}
	if lag.Stored, err = store.EventStats(ctx); err != nil {
		return lag, err
	}
	lag.RollUp, err = backlog(ctx, store, storage.RollUpCursor)
	return lag, err
}

// backlog is empty for a reader that has not begun yet.
func backlog(ctx context.Context, store *storage.DB, name string) (delivery.Backlog, error) {
	b, err := store.Backlog(ctx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return delivery.Backlog{}, nil
	}
	return b, err
}

// Replay implements [adminapi.Events].
func (a *adminEvents) Replay(ctx context.Context, sink string, from time.Time, record func(*storage.Tx) error) (pending int64, err error) {
	store, err := a.opened()
	if err != nil {
		return 0, err
	}
	engine := a.engine()
	if engine == nil {
		return 0, storage.ErrNotFound
	}
	before, err := store.Backlog(ctx, sink)
	if err != nil {
		return 0, err
	}
	if from.After(time.Now()) || before.Pending > 0 && from.After(before.Oldest) {
		return 0, delivery.ErrNotBehind
	}
	err = store.Update(ctx, func(tx *storage.Tx) error {
		if _, err := tx.RewindCursor(ctx, sink, from); err != nil {
			return err
		}
		return record(tx)
	})
	if err != nil {
		return 0, err
	}
	engine.Wake()
	after, err := store.Backlog(ctx, sink)
	return after.Pending, err
}

// Dead implements [adminapi.Events].
func (a *adminEvents) Dead(ctx context.Context, sink string, after int64, limit int) ([]delivery.DeadLetter, error) {
	store, err := a.opened()
	if err != nil {
		return nil, err
	}
	return store.DeadLetters(ctx, sink, after, limit)
}

// Requeue implements [adminapi.Events].
func (a *adminEvents) Requeue(ctx context.Context, sink string, ids []int64, record func(*storage.Tx) error) (n int64, err error) {
	store, err := a.opened()
	if err != nil {
		return 0, err
	}
	engine := a.engine()
	if engine == nil {
		return 0, storage.ErrNotFound
	}
	err = store.Update(ctx, func(tx *storage.Tx) error {
		if n, err = tx.RequeueDead(ctx, sink, ids...); err != nil || n == 0 {
			return err
		}
		return record(tx)
	})
	if err == nil {
		engine.Wake()
	}
	return n, err
}

// Interface guards
var _ adminapi.Events = (*adminEvents)(nil)
