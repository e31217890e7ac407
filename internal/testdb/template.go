//go:build unix

package testdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// templates are databases that tests get copies of, by their names.
var templates = prepared{made: map[string]*template{}}

type prepared struct {
	mu   sync.Mutex
	made map[string]*template
}

// template is a database that is filled once.
type template struct {
	sync.Once
	name string
	err  error
	drop func() error
}

// get makes the template unless that has been done.
func (p *prepared) get(key string, make func(t *template) error) (string, error) {
	p.mu.Lock()
	t := p.made[key]
	if t == nil {
		t = &template{drop: func() error { return nil }}
		p.made[key] = t
	}
	p.mu.Unlock()
	t.Do(func() {
		if t.err = make(t); t.err != nil {
			t.err = fmt.Errorf("making the template %q: %w", key, t.err)
		}
	})
	return t.name, t.err
}

func (p *prepared) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for _, t := range p.made {
		err = errors.Join(err, t.drop())
	}
	clear(p.made)
	return err
}

// PostgresLike is [Postgres] with what prepare puts into a database, once for all
// tests of the binary that give the same name. prepare must close what it opens.
func PostgresLike(tb testing.TB, name string, prepare func(dsn string) error) (dsn string) {
	tb.Helper()
	template, err := templates.get("postgres "+name, func(t *template) error {
		admin, err := adminURL()
		if err != nil {
			return err
		}
		t.name = databaseName()
		if err := run(admin.String(), createDatabase(t.name, "template0")); err != nil {
			return err
		}
		t.drop = func() error { return run(admin.String(), dropDatabase(t.name)) }
		return prepare(databaseURL(admin, t.name))
	})
	if err != nil {
		tb.Fatal(err)
	}
	return newDatabase(tb, template)
}

// FileLike writes the file that prepare makes, once for all tests of the binary
// that give the same name, to path. Missing directories are made.
func FileLike(tb testing.TB, name, path string, prepare func(path string) error) {
	tb.Helper()
	template, err := templates.get("file "+name, func(t *template) error {
		dir, err := makeDir(nil)
		if err != nil {
			return err
		}
		t.drop = func() error { return os.RemoveAll(dir) }
		t.name = filepath.Join(dir, "template")
		return prepare(t.name)
	})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(template)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
}
