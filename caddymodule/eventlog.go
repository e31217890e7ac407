package caddymodule

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/capture"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	// eventFlush is how long the last events of a process may take to be written.
	eventFlush = 10 * time.Second

	rollUpBatch = 5000            // pages of the index are written once for all of them
	eventChore  = 2000            // events that housekeeping deletes at once
	rollUpEvery = time.Second     // and no sooner, as many events at once cost less than one by one
	rollUpPause = 5 * time.Second // after a failure
	rollUpLease = 15 * time.Second
)

// startEvents begins the event log of a database that has just been opened. It
// needs d.mu.
func (d *database) startEvents(store *storage.DB) error {
	dir := spillDir(store.Pepper())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.logger.Warn("events have no place on disk to wait in: while the database is away they wait in memory, and are lost with the process", "error", err)
		dir = ""
	}
	d.eventSwitch = eventredis.NewSwitch(store)
	log, err := event.New(event.Config{Store: d.eventSwitch, Dir: dir, Logger: d.logger})
	if err == nil {
		err = log.Start()
	}
	if err != nil {
		return fmt.Errorf("the event log: %w", err)
	}
	d.rollUp = &rollUp{store: store, logger: d.logger, owner: uuid.Must(uuid.NewV4()).String()}
	log.OnCommit(d.sinks.Wake)
	d.events.Store(log)
	d.work.Go(func() { d.rollUp.run(d.ctx) })
	return nil
}

// spillDir is where events wait that the database does not take. Databases have
// one each, by the pepper that all nodes of an installation share, since a process
// takes over what others that are gone have left there.
func spillDir(pepper []byte) string {
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte("event spill"))
	return filepath.Join(caddy.AppDataDir(), "llm_proxy", "events", hex.EncodeToString(mac.Sum(nil)[:8]))
}

// stopEvents writes what is left. The store must still be open.
func (d *database) stopEvents() {
	log := d.events.Load()
	if log == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), eventFlush)
	defer cancel()
	if err := log.Close(ctx); err != nil {
		d.logger.Error("closing the event log", "error", err)
	}
}

// Append implements [gateway.EventLog]. Requests come only once the database is open.
func (d *database) Append(ev *event.Event) { d.events.Load().Append(ev) }

// AppendDurable implements [gateway.EventLog].
func (d *database) AppendDurable(ctx context.Context, ev *event.Event) error {
	return d.events.Load().AppendDurable(ctx, ev)
}

// eventStats is zero until the database is open.
func (d *database) eventStats() event.Stats {
	if log := d.events.Load(); log != nil {
		return log.Stats()
	}
	return event.Stats{}
}

// rollUp sums events up, on one node at a time: all could, but would only wait for
// each other.
type rollUp struct {
	store  *storage.DB
	logger *slog.Logger
	owner  string
	has    time.Time // until when the lease is ours, with room to spare
}

func (r *rollUp) run(ctx context.Context) {
	defer r.release(context.WithoutCancel(ctx))
	timer := time.NewTimer(rollUpEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := rollUpEvery
		if err := r.catchUp(ctx); err != nil && ctx.Err() == nil {
			next = rollUpPause
			if !errors.Is(err, storage.ErrUnreachable) { // the event log tells of that
				r.logger.Error("usage is not summed up; it will be, later", "error", err)
			}
		}
		timer.Reset(next)
	}
}

// catchUp takes everything that there is, if this node is the one to do it.
func (r *rollUp) catchUp(ctx context.Context) error {
	for {
		if time.Now().After(r.has) {
			asked := time.Now()
			ok, err := r.store.TryLease(ctx, "rollup", r.owner, rollUpLease)
			if err != nil || !ok {
				return err
			}
			r.has = asked.Add(rollUpLease / 2)
		}
		taken, err := r.store.RollUp(ctx, rollUpBatch)
		if err != nil || taken < rollUpBatch {
			return err
		}
	}
}

func (r *rollUp) release(ctx context.Context) {
	if r.has.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = r.store.ReleaseLease(ctx, "rollup", r.owner) // or it ends by itself
}

// captureLimit is how much of a body an event holds, in bytes.
const captureLimit = 256 << 10

func (c *eventsConfig) capture() (limits gateway.Capture) {
	if c.captureRequest {
		limits.Request = captureLimit
	}
	if c.captureResponse {
		limits.Response = captureLimit
	}
	return limits
}

// prepare makes captured bodies fit to be kept; nil when none are captured.
func (c *eventsConfig) prepare() func(*event.Event) {
	if !c.captureRequest && !c.captureResponse {
		return nil
	}
	return capture.New(capture.Config{Redact: c.redact}).Process
}
