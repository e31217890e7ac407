package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// MigrateTo migrates a database that this DB has not opened up or down to a
// version, under the same lock as every start, and returns the versions before and
// after. Going down loses what the newer schema held.
func (db *DB) MigrateTo(ctx context.Context, target int64) (before, after int64, err error) {
	db.openMu.Lock()
	defer db.openMu.Unlock()
	if db.conns.Load() != nil {
		return 0, 0, errors.New("migrating the database: it is open already")
	}
	migrator, unlock, err := db.dialect.lock(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("migrating the database: %w", db.classify(err))
	}
	defer unlock()
	if migrator == nil {
		if migrator, err = db.dialect.openWriter(ctx); err != nil {
			return 0, 0, fmt.Errorf("migrating the database: %w", db.classify(err))
		}
		defer migrator.Close()
	}
	before, after, err = migrations.To(ctx, migrator, db.dialect.migrations(), target)
	if err != nil {
		return before, after, fmt.Errorf("migrating the database: %w", db.classify(err))
	}
	return before, after, nil
}

// LatestVersion is the newest schema version that this binary knows.
func (db *DB) LatestVersion() (int64, error) { return migrations.Latest(db.dialect.migrations()) }
