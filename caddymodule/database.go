package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/lease"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	// openTimeout bounds one attempt to open the database, and how long a reload
	// waits for one that is out of reach.
	openTimeout = 10 * time.Second
	// startWait is how long a request waits for Start: Caddy starts apps in random
	// order, so the listener may be up before the app.
	startWait = 10 * time.Second
	retryMin  = 250 * time.Millisecond
	retryMax  = 5 * time.Second
)

// served is set when a configuration has started with its database open: from
// then on a database out of reach is a reason to keep the old configuration.
var served atomic.Bool

// database is the opened database with what depends on it alone: who is known,
// and who is being served. Configurations share it.
type database struct {
	cfg       databaseConfig
	logger    *slog.Logger
	authority *token.Authority
	inflight  *gateway.Inflight
	audit     *auditTrail
	sinks     *sinks
	store     atomic.Pointer[storage.DB]
	events    atomic.Pointer[event.Log]
	ledger    atomic.Pointer[ledger.Ledger]
	caches    caches
	ring      *secret.Keyring // made with store

	// Made when the database is opened:
	eventSwitch *eventredis.Switch
	rollUp      *rollUp

	eventRetention atomic.Int64 // time.Duration; the newest configuration's
	gaveUp         sync.Once    // closes away
	lease          *lease.Lease // doomed when no configuration uses the database any more
	holders        holders      // who brought which encryption keys

	announcers announcers // tell other nodes what changed, besides the database

	ready chan struct{} // closed when the database is open
	away  chan struct{} // closed when Start has found it out of reach or unusable
	mu    sync.Mutex    // one start at a time
	state databaseState
	first firstUse // by whoever cannot wait for Start

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	workMu sync.Mutex // orders work that others begin against close
}

type databaseState uint8

const (
	databaseNew databaseState = iota
	databaseAway
	databaseOpen
)

func newDatabase(cfg databaseConfig, logger *slog.Logger) *database {
	d := &database{cfg: cfg, logger: logger, inflight: gateway.NewInflight(), ready: make(chan struct{}), away: make(chan struct{})}
	d.authority = token.NewAuthority(d, token.Options{OutageGrace: cfg.outageGrace, ClockOffset: d.clockOffset, Logger: logger})
	d.audit = newAuditTrail(d)
	d.sinks = newSinks(d)
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.lease = lease.New(d.close)
	counted.Add(d)
	return d
}

// GoString keeps settings out of the panic message of Caddy's UsagePool.
func (d *database) GoString() string { return "llm_proxy database" }

// Destruct implements [caddy.Destructor]: no configuration uses the database
// any more. Requests that still do keep it open until they are done.
func (d *database) Destruct() error {
	d.lease.Doom()
	return nil
}

func (d *database) close() {
	d.workMu.Lock()
	d.stop()
	d.workMu.Unlock()
	d.work.Wait()
	d.authority.Close()
	d.inflight.Close()
	d.sinks.close()
	d.audit.close()
	d.stopLedger()
	d.stopEvents()
	counted.Remove(d)
	if store := d.store.Load(); store != nil {
		if err := store.Close(); err != nil {
			d.logger.Error("closing the database", "error", err)
		}
	}
}

// start opens the database, once for all configurations that share it.
func (d *database) start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.state {
	case databaseOpen:
		served.Store(true)
		return nil
	case databaseAway:
		return d.await()
	}
	err := d.open()
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, storage.ErrUnreachable):
		d.answerWaiting()
		return err
	case served.Load():
		if err = d.retryFor(openTimeout, err); err != nil {
			d.answerWaiting()
		}
		return err
	}
	d.logger.Error("the database is out of reach; requests are answered 503 until it is not", "error", err)
	d.state = databaseAway
	d.answerWaiting()
	d.work.Go(d.retry)
	return nil
}

// answerWaiting lets requests go that wait for the database to open: those of
// a configuration that fails to start may have come in already.
func (d *database) answerWaiting() { d.gaveUp.Do(func() { close(d.away) }) }

// await gives a database that is being retried the time that a reload may take.
func (d *database) await() error {
	d.mu.Unlock()
	defer d.mu.Lock()
	if !served.Load() {
		return nil
	}
	select {
	case <-d.ready:
		return nil
	case <-time.After(openTimeout):
		return fmt.Errorf("%w for %s", storage.ErrUnreachable, openTimeout)
	}
}

func (d *database) retryFor(limit time.Duration, err error) error {
	deadline := time.Now().Add(limit)
	for pause := retryMin; time.Now().Add(pause).Before(deadline); pause = min(2*pause, retryMax) {
		select {
		case <-d.ctx.Done():
			return err
		case <-time.After(pause):
		}
		if err = d.open(); err == nil || !errors.Is(err, storage.ErrUnreachable) {
			return err
		}
	}
	return err
}

// retry goes on until the database opens or is not wanted any more.
func (d *database) retry() {
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		select {
		case <-d.ctx.Done():
			return
		case <-time.After(pause):
		}
		d.mu.Lock()
		err := d.open()
		d.mu.Unlock()
		if err == nil {
			d.logger.Info("the database is open")
			return
		}
		d.logger.Error("opening the database", "error", err, "next_attempt_in", min(2*pause, retryMax))
	}
}

// open needs d.mu.
func (d *database) open() error {
	if err := d.connect(); err != nil {
		return err
	}
	served.Store(true)
	return nil
}

// connect needs d.mu. It does nothing when the database is open.
func (d *database) connect() error {
	if d.state == databaseOpen {
		return nil
	}
	store := d.store.Load()
	if store == nil {
		ring, err := d.keyring()
		if err != nil {
			return err
		}
		d.ring = ring
		store, err = storage.New(storage.Config{
			Driver: d.cfg.driver, DSN: d.cfg.dsn, Keyring: ring, Logger: d.logger,
			NoMigrate: d.cfg.noMigrate, MaxConns: d.cfg.maxConns, StatementTimeout: d.cfg.statementTimeout,
		})
		if err != nil {
			return err
		}
		store.OnChange(d.changed)
		store.OnCommit(d.announcers.announce)
		store.OnGap(d.missed)
		store.OnGap(d.purgesMissed)
		store.OnPurge(d.purged)
		store.OnAudit(d.audit.heard)
		d.store.Store(store)
	}
	ctx, cancel := context.WithTimeout(d.ctx, openTimeout)
	defer cancel()
	if err := store.Open(ctx); err != nil {
		return err
	}
	if err := d.startEvents(store); err != nil {
		return err
	}
	if d.ledger.Load() == nil {
		if err := d.startLedger(store); err != nil {
			return err
		}
	}
	d.state = databaseOpen
	close(d.ready)
	return nil
}

// missed is called when announcements of other nodes may have been lost:
// nothing remembered is trusted any more, and requests that are under way are asked
// about again, as a revocation may be among what was missed.
func (d *database) missed() {
	d.authority.DistrustAll()
	d.workMu.Lock()
	defer d.workMu.Unlock()
	if d.ctx.Err() != nil {
		return
	}
	d.work.Go(func() { d.inflight.Recheck(func(id uuid.UUID) error { return d.authority.Check(d.ctx, id) }) })
}

// gate holds a request back until the database is open: for a moment while
// Caddy is still starting, not at all once it is known to be out of reach.
func (d *database) gate(ctx context.Context) *apierr.Error {
	select {
	case <-d.ready:
		return nil
	default:
	}
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case <-d.ready:
		return nil
	case <-d.away:
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case <-d.ready:
		return nil
	default:
		return gateway.ErrStarting
	}
}

// isOpen reports whether the database has been opened.
func (d *database) isOpen() bool {
	select {
	case <-d.ready:
		return true
	default:
		return false
	}
}

// The methods below make the database the authority's source of tokens.

func (d *database) clockOffset() time.Duration {
	if store := d.store.Load(); store != nil {
		return store.ClockOffset()
	}
	return 0
}

// LoadToken implements [token.Source].
func (d *database) LoadToken(ctx context.Context, id uuid.UUID) (*token.Record, error) {
	return d.store.Load().LoadToken(ctx, id)
}

// LoadProject implements [token.Source].
func (d *database) LoadProject(ctx context.Context, id uuid.UUID) (*project.Snapshot, error) {
	return d.store.Load().LoadProject(ctx, id)
}

// Pepper implements [token.Source].
func (d *database) Pepper() []byte { return d.store.Load().Pepper() }

// NotFound implements [token.Source].
func (d *database) NotFound(err error) bool { return errors.Is(err, storage.ErrNotFound) }
