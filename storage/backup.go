package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup writes the database, as it is at this moment, into a new SQLite file with
// this program's schema, whatever database this one is. Readers and writers go on.
// The file is there when it is whole; what an interrupted backup leaves is a
// directory beside it, whose name begins with a dot and ends in ".partial".
//
// Secrets in it are sealed under the keys that they are sealed under now.
func (db *DB) Backup(ctx context.Context, file string, o CopyOptions) (*CopyReport, error) {
	if _, err := db.open(); err != nil {
		return nil, err
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("the path of the backup: %w", err)
	}
	if err := refuseExisting(file); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.partial")
	if err != nil {
		return nil, fmt.Errorf("making the backup: %w", err)
	}
	report, err := db.backupIn(ctx, dir, file, o)
	if removed := os.RemoveAll(dir); removed != nil && err == nil {
		err = fmt.Errorf("the backup is made, but clearing up failed: %w", removed)
	}
	if err != nil {
		return nil, err
	}
	return report, nil
}

func refuseExisting(file string) error {
	_, err := os.Lstat(file)
	switch {
	case err == nil:
		return fmt.Errorf("%s exists: a backup replaces nothing, give another name", file)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("making the backup: %w", err)
	}
	return nil
}

// backupIn makes the backup in a directory and moves it to its place.
func (db *DB) backupIn(ctx context.Context, dir, file string, o CopyOptions) (*CopyReport, error) {
	whole := filepath.Join(dir, "whole.db")
	f, err := os.OpenFile(whole, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return nil, fmt.Errorf("making the backup: %w", err)
	}
	defer f.Close()
	var copied *CopyReport
	err = db.dialect.snapshot(ctx, whole)
	if errors.Is(err, errNoSnapshot) {
		copied, err = db.backupThrough(ctx, filepath.Join(dir, "copy.db"), whole, o)
	}
	if err != nil {
		return nil, fmt.Errorf("making the backup: %w", db.classify(err))
	}
	report, err := sumFile(ctx, whole, copied)
	if err != nil {
		return nil, fmt.Errorf("reading the backup again: %w", err)
	}
	if o.inside != nil {
		o.inside()
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("making the backup: %w", err)
	}
	if err := moveNew(whole, file); err != nil {
		return nil, fmt.Errorf("making the backup: %w", err)
	}
	return report, nil
}

// backupThrough copies row by row. The second file is the first one without the
// log and the lock beside it.
func (db *DB) backupThrough(ctx context.Context, copied, whole string, o CopyOptions) (*CopyReport, error) {
	pool, err := db.dialect.openBulk(ctx)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	tx, err := readOnly(ctx, pool)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	identity, err := readMeta(ctx, tx, metaIdentity)
	if err != nil {
		return nil, err
	}
	report, err := copyInto(ctx, &copySource{tx: tx, identity: identity}, Config{Driver: "sqlite", DSN: copied, Keyring: db.keyring}, CopyOptions{Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	s, err := newSQLite(copied, db.logger)
	if err != nil {
		return nil, err
	}
	return report, s.snapshot(ctx, whole)
}

// sumFile reads a whole backup; copied is what must be in it, if that is known.
func sumFile(ctx context.Context, file string, copied *CopyReport) (*CopyReport, error) {
	ring, err := anyKeyring()
	if err != nil {
		return nil, err
	}
	source, err := openCopySource(ctx, Config{Driver: "sqlite", DSN: file, Keyring: ring})
	if err != nil {
		return nil, err
	}
	defer source.close()
	report := &CopyReport{}
	for i, table := range copiedTables {
		columns, _, err := columnsOf(ctx, source.tx, table.name)
		if err != nil {
			return nil, err
		}
		sum, err := sumTable(ctx, source.tx, table, columns, -1)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", table.name, err)
		}
		if copied != nil && copied.Tables[i].Checksum != sum.String() {
			return nil, fmt.Errorf("table %s is not what was written: the disk or the file system is at fault", table.name)
		}
		report.Tables = append(report.Tables, CopiedTable{Table: table.name, Rows: sum.rows, Checksum: sum.String(), Written: sum.rows, Same: true})
	}
	return report, nil
}

// moveNew renames without replacing what came into being meanwhile, where the
// file system can.
func moveNew(from, to string) error {
	err := os.Link(from, to)
	if errors.Is(err, fs.ErrExist) {
		return refuseExisting(to)
	}
	if err != nil {
		if err := refuseExisting(to); err != nil {
			return err
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer dir.Close()
	_ = dir.Sync() // makes the name last; not every system can
	return nil
}
