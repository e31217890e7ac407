package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// backup makes a backup and returns its path.
func backup(t testing.TB, db *DB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backup.db")
	report, err := db.Backup(t.Context(), file, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range report.Tables {
		if !table.Same || len(table.Checksum) != 64 {
			t.Errorf("%+v", table)
		}
	}
	return file
}

// TestBackup backs up and restores, into the database itself and into new ones of
// both kinds.
func TestBackup(t *testing.T) {
	t.Parallel()
	acrossKinds(t, testBackup)
}

func testBackup(t *testing.T, dsn, other string) {
	m := makeMoved(t, dsn, 501)
	want := content(t, dsn)
	db := openDB(t, dsn)
	file := backup(t, db)
	sameContent(t, want, file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the backup: %v, %v", entries, err)
	}
	if _, err := db.Backup(t.Context(), file, CopyOptions{}); err == nil || !strings.Contains(err.Error(), "replaces nothing") {
		t.Errorf("over a file that exists: %v", err)
	}
	db.Close()

	cfg := Config{Driver: driverOf(other), DSN: other, Keyring: testKeyring(t)}
	report, err := Restore(t.Context(), cfg, file, CopyOptions{}) // nothing there: no consent needed
	if err != nil || report.Changed() != int64(len(want)) {
		t.Fatalf("%+v, %v", report, err)
	}
	restored := content(t, other)
	for key := range restored {
		if _, was := want[key]; !was && !strings.HasPrefix(key, "audit_events ") {
			t.Errorf("%s is new", key)
		}
	}
	if len(restored) != len(want)+1 { // and the record of the restore
		t.Errorf("%d rows of %d", len(restored), len(want))
	}
	m.authenticates(t, other)
	if _, err := Restore(t.Context(), cfg, file, CopyOptions{}); !errors.Is(err, ErrHoldsData) {
		t.Errorf("without consent: %v", err)
	}
	sameContent(t, restored, other)
	// Once more changes the record alone.
	if report, err = Restore(t.Context(), cfg, file, CopyOptions{Replace: true}); err != nil || report.Changed() != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestBackupFails leaves nothing behind.
func TestBackupFails(t *testing.T) {
	t.Parallel()
	onBoth(t, testBackupFails)
}

func testBackupFails(t *testing.T, dsn string) {
	makeMoved(t, dsn, 1)
	db := openDB(t, dsn)
	if _, err := db.Backup(t.Context(), filepath.Join(t.TempDir(), "no", "such", "dir.db"), CopyOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	dir := t.TempDir()
	_, err := db.Backup(t.Context(), filepath.Join(dir, "x.db"), CopyOptions{inside: func() {
		if err := os.WriteFile(filepath.Join(dir, "x.db"), []byte("precious"), 0o600); err != nil {
			t.Error(err)
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "exists") || string(readFile(t, filepath.Join(dir, "x.db"))) != "precious" {
		t.Errorf("a file that came meanwhile: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if _, err := newDB(t, dsn).Backup(t.Context(), filepath.Join(dir, "y.db"), CopyOptions{}); !errors.Is(err, errNotOpen) {
		t.Error(err)
	}
}

// TestBackupUnderLoad backs up while others write pairs of rows that belong
// together, and looks for torn ones.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	onBoth(t, testBackupUnderLoad)
}

func testBackupUnderLoad(t *testing.T, dsn string) {
	m := makeMoved(t, dsn, 100)
	db := openDB(t, dsn)
	one, two := m.projects[0], m.projects[1]
	var stop atomic.Bool
	var writes atomic.Int64
	var load sync.WaitGroup
	load.Go(func() {
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for n := int64(0); !stop.Load(); <-pace.C {
			n++
			err := db.Update(t.Context(), func(tx *Tx) error {
				for _, id := range []any{one.ID, two.ID} {
					if _, err := tx.tx.ExecContext(t.Context(), `UPDATE projects SET updated_at = $1 WHERE id = $2`, n, id); err != nil {
						return err
					}
				}
				_, s, err := token.Mint(tx.now)
				if err != nil {
					return err
				}
				p := one
				p.ID, p.Name = s.ID, "project "+s.ID.String()
				if err := tx.CreateProject(t.Context(), &p); err != nil {
					return err
				}
				hash := s.Hash(db.Pepper())
				return tx.CreateToken(t.Context(), &token.Token{ID: s.ID, ProjectID: p.ID, Active: true, Hash: hash[:], HashScheme: token.SchemeHMAC})
			})
			if err != nil {
				t.Errorf("a writer: %v", err)
				return
			}
			writes.Store(n)
		}
	})
	defer load.Wait()
	defer stop.Store(true)
	for range 3 {
		before := writes.Load()
		eventually(t, "the writer goes on", func() bool { return writes.Load() > before })
		raw := rawDB(t, backup(t, db))
		var torn, orphans, distinct, rows int64
		err := raw.QueryRow(`SELECT (SELECT COUNT(*) FROM projects WHERE name LIKE 'project %' AND id NOT IN (SELECT id FROM tokens)),
			(SELECT COUNT(*) FROM tokens WHERE project_id NOT IN (SELECT id FROM projects)),
			(SELECT COUNT(DISTINCT updated_at) FROM projects WHERE id IN ($1, $2)), (SELECT COUNT(*) FROM projects WHERE id IN ($1, $2))`,
			one.ID.String(), two.ID.String()).Scan(&torn, &orphans, &distinct, &rows)
		if err != nil || torn != 0 || orphans != 0 || distinct != 1 || rows != 2 {
			t.Errorf("%d torn pairs, %d orphans, %d of %d moments: %v", torn, orphans, distinct, rows, err)
		}
	}
}

// TestRestoreReplaces undoes what was done since the backup. Versions go on.
func TestRestoreReplaces(t *testing.T) {
	t.Parallel()
	onBoth(t, testRestoreReplaces)
}

func testRestoreReplaces(t *testing.T, dsn string) {
	m := makeMoved(t, dsn, 20)
	db := openDB(t, dsn)
	file := backup(t, db)
	want := content(t, dsn)
	revoked, changed := m.secrets[1].ID, m.projects[0]
	var before, after int64
	err := db.Update(t.Context(), func(tx *Tx) error {
		tok, err := tx.Token(t.Context(), revoked)
		if err != nil {
			return err
		}
		before = tok.Version
		tok.Active = false
		if err := tx.UpdateToken(t.Context(), tok); err != nil {
			return err
		}
		after = tok.Version
		changed.Name = "another name"
		return tx.UpdateProject(t.Context(), &changed)
	})
	if err != nil {
		t.Fatal(err)
	}
	m.addTokens(t, db, 5)
	later := m.secrets[20:]
	m.secrets = m.secrets[:20]

	heard := hear(t, db)
	cfg := Config{Driver: driverOf(dsn), DSN: dsn, Keyring: testKeyring(t)}
	report, err := Restore(t.Context(), cfg, file, CopyOptions{Replace: true})
	if err != nil || report.Changed() != 2+5 {
		t.Fatalf("%+v, %v", report, err)
	}
	eventually(t, "who has the database open hears of it", func() bool { _, gaps := heard.all(); return gaps > 0 })
	m.authenticates(t, dsn)
	for _, s := range later {
		if _, err := db.LoadToken(t.Context(), s.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("a token made since the backup: %v", err)
		}
	}
	record, err := db.LoadToken(t.Context(), revoked)
	if err != nil || !record.Token.Active || before >= after || record.Token.Version != after+1 {
		t.Errorf("the revoked token: %+v, %v; versions %d and %d", record, err, before, after)
	}
	got := content(t, dsn)
	differing := 0
	for key, row := range want {
		if got[key] != row {
			differing++
		}
	}
	if differing != 2 || len(got) != len(want)+1 {
		t.Errorf("%d rows differ, %d of %d", differing, len(got), len(want))
	}
	entries, err := db.AuditEntries(t.Context(), AuditFilter{Action: "database.restore"})
	if err != nil || len(entries) != 1 || entries[0].Actor != "command_line" || entries[0].Reason != "from backup.db" {
		t.Errorf("%+v, %v", entries, err)
	}
}

// TestRestoreRefuses changes nothing for files that will not do.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	onBoth(t, testRestoreRefuses)
}

func testRestoreRefuses(t *testing.T, dsn string) {
	makeMoved(t, dsn, 2)
	db := openDB(t, dsn)
	want := content(t, dsn)
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "x.db")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	altered := func(statements ...string) string {
		file := backup(t, db)
		raw := rawDB(t, file)
		for _, statement := range statements {
			mustExec(t, raw, statement)
		}
		raw.Close()
		return file
	}
	keys := Config{Driver: driverOf(dsn), DSN: dsn, Keyring: testKeyring(t)}
	other := keys
	other.Keyring = testKeyring(t, testKey(2))
	var missing *MissingKeyError
	var newer *NewerSchemaError
	for name, tc := range map[string]struct {
		cfg   Config
		file  string
		words string
		kind  any
	}{
		"missing":    {keys, filepath.Join(t.TempDir(), "x.db"), "no such file", nil},
		"directory":  {keys, t.TempDir(), "not a file", nil},
		"empty":      {keys, write(""), "no data of this program", nil},
		"text":       {keys, write(strings.Repeat("no database ", 100)), "not a SQLite database", nil},
		"another's":  {keys, altered(`DROP TABLE ` + migrations.Table), "no data of this program", nil},
		"newer":      {keys, altered(`INSERT INTO ` + migrations.Table + ` (version_id, is_applied) VALUES (999, TRUE)`), "version 999", &newer},
		"keys":       {other, altered(), "encryption_key <current> <older>", &missing},
		"no pepper":  {keys, altered(`DELETE FROM secrets`), "no token pepper", nil},
		"unfinished": {keys, altered(`INSERT INTO meta (name, value) VALUES ('copy', 'x')`), "unfinished copy", nil},
		"no table":   {keys, altered(`DROP TABLE cert_store`), "cert_store", nil},
		"column":     {keys, altered(`ALTER TABLE projects ADD COLUMN x TEXT`), "columns of projects differ", nil},
		"reference":  {keys, altered(`PRAGMA foreign_keys = OFF`, `DELETE FROM projects`), "not found", nil},
	} {
		_, err := Restore(t.Context(), tc.cfg, tc.file, CopyOptions{Replace: true})
		if err == nil || !strings.Contains(err.Error(), tc.words) || tc.kind != nil && !errors.As(err, tc.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	sameContent(t, want, dsn)
}

// TestRestoreOlder restores backups of all versions since there is a pepper; what
// they lack is made in a copy.
func TestRestoreOlder(t *testing.T) {
	t.Parallel()
	onBoth(t, testRestoreOlder)
}

func testRestoreOlder(t *testing.T, dsn string) {
	source := filepath.Join(t.TempDir(), "source.db")
	m := makeMoved(t, source, 10)
	latest, err := migrations.Latest(migrations.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Driver: driverOf(dsn), DSN: dsn, Keyring: testKeyring(t)}
	for version := latest - 1; version >= 5; version-- {
		file := backup(t, openDB(t, source))
		if _, _, err := newDB(t, file).MigrateTo(t.Context(), version); err != nil {
			t.Fatal(err)
		}
		before := readFile(t, file)
		if _, err := Restore(t.Context(), cfg, file, CopyOptions{Replace: true}); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if string(readFile(t, file)) != string(before) {
			t.Errorf("the backup of version %d was changed", version)
		}
		m.authenticates(t, dsn)
	}
}
