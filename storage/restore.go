package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
)

// Restore makes a database hold what a backup holds, in one transaction: until it
// is committed, and when it is not, everything is as before. It may be served
// meanwhile: nodes that have it open hear of it. The backup may be of an older
// version and of either kind of database; [Config.Keyring] must open what is sealed
// in it. A database with data is refused unless CopyOptions.Replace: [ErrHoldsData].
//
// Versions of rows never go back: what differs gets a higher one than it had.
func Restore(ctx context.Context, cfg Config, file string, o CopyOptions) (*CopyReport, error) {
	source, err := openBackup(ctx, cfg, file)
	if err != nil {
		return nil, fmt.Errorf("restoring %s: %w", filepath.Base(file), err)
	}
	report, err := restoreFrom(ctx, source.copySource, cfg, filepath.Base(file), o)
	if err = errors.Join(err, source.close()); err != nil {
		return nil, fmt.Errorf("restoring %s: %w", filepath.Base(file), err)
	}
	return report, nil
}

// backupFile is a backup, or a copy of one that had to be migrated.
type backupFile struct {
	*copySource
	dir string
}

func (b *backupFile) close() error {
	var err error
	if b.copySource != nil {
		err = b.copySource.close()
	}
	if b.dir != "" {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return err
}

// openBackup checks all that can be known before the database is touched.
func openBackup(ctx context.Context, cfg Config, file string) (_ *backupFile, err error) {
	switch info, err := os.Stat(file); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a file")
	}
	b := &backupFile{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	backup := Config{Driver: "sqlite", DSN: file, Keyring: cfg.Keyring, Logger: cfg.Logger}
	if backup.DSN, b.dir, err = upToDate(ctx, backup); err != nil {
		return nil, err
	}
	if b.copySource, err = openCopySource(ctx, backup); err != nil {
		return nil, err
	}
	if err := checkKeys(ctx, b.tx, b.db.keyring); err != nil {
		return nil, err
	}
	_, err = b.db.readPepper(ctx, b.tx)
	return b, err
}

// upToDate gives the file itself, or a migrated copy of it in a directory.
func upToDate(ctx context.Context, backup Config) (file, dir string, err error) {
	db, err := New(backup)
	if err != nil {
		return "", "", err
	}
	defer db.Close()
	list, err := db.MigrationStatus(ctx)
	if err != nil {
		return "", "", err
	}
	latest, err := db.LatestVersion()
	if err != nil {
		return "", "", err
	}
	var version int64
	for _, m := range list {
		if m.Applied {
			version = max(version, m.Version)
		}
	}
	switch {
	case version == 0:
		return "", "", errNotOurs
	case version > latest:
		return "", "", &NewerSchemaError{Database: version, Binary: latest}
	case version == latest:
		return backup.DSN, "", nil
	}
	if dir, err = os.MkdirTemp("", "llm-proxy-restore-"); err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, "backup.db")
	if err := db.dialect.snapshot(ctx, file); err != nil {
		return "", dir, err
	}
	backup.DSN = file
	older, err := New(backup)
	if err != nil {
		return "", dir, err
	}
	_, _, err = older.MigrateTo(ctx, latest)
	return file, dir, errors.Join(err, older.Close())
}

func restoreFrom(ctx context.Context, source *copySource, cfg Config, name string, o CopyOptions) (_ *CopyReport, err error) {
	cfg.AnyKeys = true // what is there may be beyond help
	db, err := New(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.partial = true
	if err := db.Open(ctx); err != nil {
		return nil, err
	}
	bulk, err := db.dialect.openBulk(ctx)
	if err != nil {
		return nil, db.classify(err)
	}
	defer bulk.Close()
	var names []string
	for _, table := range copiedTables {
		names = append(names, table.name)
	}
	var report *CopyReport
	err = db.patiently(ctx, func(tx *Tx) error {
		if err := db.dialect.exclusive(ctx, tx.tx, names); err != nil {
			return tx.fail(err)
		}
		if data, err := holdsData(ctx, tx.tx); err != nil {
			return tx.fail(err)
		} else if data && !o.Replace {
			return ErrHoldsData
		}
		// Nobody else writes now, so what others see is what was before.
		t := &transfer{from: source.tx, to: bulk, progress: o.Progress, raise: true}
		t.write = func(_ context.Context, fn func(tx *Tx) error) error { return fn(tx) }
		if err := t.run(ctx); err != nil {
			return tx.fail(err)
		}
		if err := t.verify(ctx, tx.tx); err != nil {
			return tx.fail(err)
		}
		if names := t.report.Differing(); len(names) > 0 {
			return fmt.Errorf("%s differ from the backup: nothing was changed", strings.Join(names, ", "))
		}
		report = &t.report
		return tx.restored(ctx, name, o.inside)
	})
	return report, err
}

// restored ends a restore.
func (tx *Tx) restored(ctx context.Context, name string, inside func()) error {
	err := tx.Audit(ctx, audit.Entry{Actor: audit.ActorCommandLine, Action: audit.DatabaseRestore, Outcome: audit.OutcomeSuccess, Reason: "from " + name})
	if err == nil {
		err = errors.Join(tx.dropMeta(ctx, metaCopy), tx.dropMeta(ctx, metaOrigin), tx.renumber(ctx), tx.rewritten(ctx))
	}
	if inside != nil {
		inside()
	}
	return err
}
