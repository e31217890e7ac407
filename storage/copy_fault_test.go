package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// transferChild copies, backs up or restores, and stops for good in the middle. The
// path is two: from and to.
func transferChild(role, paths string) error {
	ring, err := secret.NewKeyring(testKey(1))
	if err != nil {
		return err
	}
	one, two, _ := strings.Cut(paths, "|")
	block := func() {
		fmt.Println("blocked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}
	ctx := context.Background()
	switch role {
	case "copy": // after 500 rows are written
		_, err = Copy(ctx, Config{Driver: driverOf(one), DSN: one}, Config{Driver: driverOf(two), DSN: two}, CopyOptions{Progress: func(p CopyProgress) {
			if p.Written >= 500 {
				block()
			}
		}})
	case "restore":
		_, err = Restore(ctx, Config{Driver: driverOf(two), DSN: two, Keyring: ring}, one, CopyOptions{Replace: true, inside: block})
	case "backup":
		var db *DB
		if db, err = New(Config{Driver: driverOf(one), DSN: one, Keyring: ring}); err == nil {
			err = db.Open(ctx)
		}
		if err == nil {
			_, err = db.Backup(ctx, two, CopyOptions{inside: block})
		}
	}
	return err
}

// killed runs a child up to where it stops, and kills it.
func killed(t *testing.T, role, from, to string) {
	t.Helper()
	cmd, _, stdout := startChild(t, role, from+"|"+to)
	if line, err := stdout.ReadString('\n'); line != "blocked\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("child ended by itself")
	}
}

// TestCopyKilled kills a copy in the middle; the next one goes on.
func TestCopyKilled(t *testing.T) {
	t.Parallel()
	acrossKinds(t, testCopyKilled)
}

func testCopyKilled(t *testing.T, from, to string) {
	m := makeMoved(t, from, 900)
	killed(t, "copy", from, to)
	there := int64(len(content(t, to)))
	want := content(t, from)
	if there < 500 || there >= int64(len(want)) {
		t.Fatalf("%d rows are there", there)
	}
	for _, look := range []Config{{DSN: to}, {DSN: to, NoMigrate: true}, {DSN: to, AnyKeys: true}} {
		err := configure(t, look).Open(t.Context())
		if !errors.Is(err, ErrUnfinished) || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "copy` again") {
			t.Errorf("starting with half a copy: %v", err)
		}
	}
	other := filepath.Join(t.TempDir(), "other.db")
	makeMoved(t, other, 1)
	if _, err := copyDB(t, other, to, CopyOptions{}); !errors.Is(err, ErrHoldsData) {
		t.Errorf("another source: %v", err)
	}
	if changed := mustCopy(t, from, to, CopyOptions{}); changed != int64(len(want))-there {
		t.Errorf("going on writes %d rows, want %d", changed, int64(len(want))-there)
	}
	sameContent(t, want, to)
	if changed := mustCopy(t, from, to, CopyOptions{}); changed != 0 {
		t.Errorf("once more writes %d rows", changed)
	}
	m.authenticates(t, to)
}

// TestRestoreKilled kills a restore before its commit: everything is as before.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, testRestoreKilled)
}

func testRestoreKilled(t *testing.T, dsn string) {
	other := filepath.Join(t.TempDir(), "other.db")
	m := makeMoved(t, other, 20)
	file := backup(t, openDB(t, other))
	old := makeMoved(t, dsn, 20)
	want := content(t, dsn)
	killed(t, "restore", file, dsn)
	sameContent(t, want, dsn)
	old.authenticates(t, dsn)

	// It works while somebody has the database open, who learns the other pepper.
	node := openDB(t, dsn)
	heard := hear(t, node)
	if _, err := Restore(t.Context(), Config{Driver: driverOf(dsn), DSN: dsn, Keyring: testKeyring(t)}, file, CopyOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node uses the new pepper", func() bool {
		_, gaps := heard.all()
		return gaps > 0 && bytes.Equal(node.Pepper(), m.pepper)
	})
	m.authenticates(t, dsn)
}

// TestBackupKilled kills a backup before the file has its name.
func TestBackupKilled(t *testing.T) {
	t.Parallel()
	onBoth(t, testBackupKilled)
}

func testBackupKilled(t *testing.T, dsn string) {
	makeMoved(t, dsn, 5)
	file := filepath.Join(t.TempDir(), "backup.db")
	killed(t, "backup", dsn, file)
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), ".backup.db.") || !strings.HasSuffix(entries[0].Name(), ".partial") {
		t.Fatalf("left behind: %v, %v", entries, err)
	}
	if _, err := openDB(t, dsn).Backup(t.Context(), file, CopyOptions{}); err != nil {
		t.Error(err)
	}
}
