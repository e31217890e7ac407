package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/housekeeping"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	defaultAuditRetention = 8760 * time.Hour
	// deadTokenGrace is how long expired and revoked tokens stay in lists, and may be
	// given a new life, before they are deleted.
	deadTokenGrace = 30 * 24 * time.Hour
)

// Audit says where the audit goes besides the database, and how long it is kept.
type Audit struct {
	// A file for the records, as JSON lines. It is made for its owner alone and
	// rotated at 100 MiB. Default: none.
	File string `json:"file,omitempty"`
	// How long records and rotated files are kept. Default: 8760h.
	Retention caddy.Duration `json:"retention,omitempty"`
}

// auditConfig is an Audit, resolved.
type auditConfig struct {
	file      string // absolute; "": none
	retention time.Duration
}

func (a *App) auditConfig() (auditConfig, error) {
	cfg := auditConfig{retention: defaultAuditRetention}
	if a.Audit == nil {
		return cfg, nil
	}
	if a.Audit.Retention < 0 {
		return cfg, errors.New("llm_proxy > audit > retention: must be positive, such as 8760h")
	}
	if a.Audit.Retention > 0 {
		cfg.retention = duration(a.Audit.Retention)
	}
	if a.Audit.File == "" {
		return cfg, nil
	}
	path, err := resolve(a.Audit.File)
	if err == nil {
		cfg.file, err = filepath.Abs(path)
	}
	if err != nil {
		return cfg, fmt.Errorf("llm_proxy > audit > file: %w", err)
	}
	return cfg, nil
}

// auditTrail is what a database's audit needs besides the database: the recorder of
// refusals, the file, and the deletion of what is old. The newest configuration
// decides about file and retention; until it is gone, since it may have failed
// to start, and the one before goes on.
type auditTrail struct {
	recorder *audit.Recorder
	logger   *slog.Logger
	begin    sync.Once

	mu       sync.Mutex
	attached []*auditAttachment // newest last; the last one to leave stays until close
}

// auditAttachment is one configuration's wish.
type auditAttachment struct {
	auditConfig
	out *audit.File // nil: none; shared with neighbours of the same path
}

func newAuditTrail(d *database) *auditTrail {
	record := func(ctx context.Context, entries []audit.Entry) error {
		store := d.store.Load()
		if store == nil {
			return storage.ErrUnreachable
		}
		return store.RecordAudit(ctx, entries)
	}
	passing := func(err error) bool { return errors.Is(err, storage.ErrUnreachable) }
	return &auditTrail{
		recorder: audit.NewRecorder(audit.RecorderConfig{Record: record, Passing: passing, Logger: d.logger}),
		logger:   d.logger,
	}
}

// attach makes a configuration's wish the one that counts, until it is detached.
func (t *auditTrail) attach(cfg auditConfig) (detach func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	added := &auditAttachment{auditConfig: cfg}
	if cfg.file != "" {
		if i := slices.IndexFunc(t.attached, func(x *auditAttachment) bool { return x.auditConfig == cfg }); i >= 0 {
			added.out = t.attached[i].out // two writers would rotate the file under each other
		} else if added.out, err = audit.OpenFile(cfg.file, cfg.retention, t.logger); err != nil {
			return nil, fmt.Errorf("llm_proxy > audit > file: %w", err)
		}
	}
	t.attached = append(t.attached, added)
	return func() { t.detach(added) }, nil
}

func (t *auditTrail) detach(gone *auditAttachment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.attached) == 1 { // requests and refusals that are under way still have something to say
		return
	}
	t.attached = slices.DeleteFunc(t.attached, func(x *auditAttachment) bool { return x == gone })
	if !slices.ContainsFunc(t.attached, func(x *auditAttachment) bool { return x.out == gone.out }) {
		t.closeFile(gone.out)
	}
}

func (t *auditTrail) closeFile(f *audit.File) {
	if f == nil {
		return
	}
	if err := f.Close(); err != nil {
		t.logger.Error("closing the audit file", "error", err)
	}
}

// current is the wish that counts.
func (t *auditTrail) current() auditAttachment {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.attached) == 0 {
		return auditAttachment{}
	}
	return *t.attached[len(t.attached)-1]
}

// heard is called with every entry that was committed.
func (t *auditTrail) heard(e audit.Entry) {
	if out := t.current().out; out != nil {
		out.Write(e)
	}
}

// keepAudit begins, once, what runs for as long as the database is used.
func (d *database) keepAudit() {
	d.audit.begin.Do(func() {
		d.workMu.Lock()
		defer d.workMu.Unlock()
		if d.ctx.Err() != nil {
			return
		}
		d.audit.recorder.Start()
		d.work.Go(func() {
			select {
			case <-d.ctx.Done():
			case <-d.ready:
				store := d.store.Load()
				housekeeping.Run(d.ctx, housekeeping.Config{Store: store, Jobs: d.chores, Logger: d.logger})
			}
		})
	})
}

// oldLedgerAge is how long what was spent in a period can be looked up.
const oldLedgerAge = 90 * 24 * time.Hour

// chores are what housekeeping does.
func (d *database) chores() []housekeeping.Job {
	store := d.store.Load()
	return []housekeeping.Job{
		{Name: "expired and revoked tokens", Age: deadTokenGrace, Delete: store.DeleteDeadTokens},
		{Name: "audit", Age: d.audit.current().retention, Delete: store.DeleteOldAudit},
		{Name: "budgets of past periods", Age: oldLedgerAge, Delete: store.DeleteOldLedger},
		{Name: "events", Age: time.Duration(d.eventRetention.Load()), Batch: eventChore, Delete: store.DeleteOldEvents},
	}
}

// close records what is left. The store must still be open.
func (t *auditTrail) close() {
	t.recorder.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	closed := map[*audit.File]bool{}
	for _, x := range t.attached {
		if !closed[x.out] {
			closed[x.out] = true
			t.closeFile(x.out)
		}
	}
	t.attached = nil
}
