package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	// MaxCertValue bounds a value of a [CertStore] in bytes. The largest that Caddy
	// keeps, chains and account keys, have some kilobytes.
	MaxCertValue = 8 << 20

	// MaxCertName bounds the name of a value or a lock in bytes: PostgreSQL does
	// not index much longer ones.
	MaxCertName = 1024
)

// CertStore is what Caddy keeps for TLS, shared by all nodes: values under names
// that are paths, and locks. A directory exists as long as a value is below it.
// All values are sealed, bound to their names.
//
// Names are cleaned as a file system does it; "" is the root. Names with "..",
// invalid UTF-8 or NUL, and those longer than [MaxCertName], are refused.
type CertStore struct{ db *DB }

// CertInfo is what is known of a value or directory.
type CertInfo struct {
	Name      string
	Modified  time.Time // zero for directories
	Size      int64     // in bytes, before sealing; zero for directories
	Directory bool
}

// Certs returns the store for certificates.
func (db *DB) Certs() CertStore { return CertStore{db} }

// certPlace is the additional data of a sealed value: moved to another name, it
// does not open.
func certPlace(name string) string { return "cert_store.sealed|" + name }

// certName returns the one form of a name.
func certName(name string) (string, error) {
	if err := checkText("the name", name); err != nil {
		return "", err
	}
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("the name %q leads upwards", name)
	}
	name = path.Clean("/" + name)[1:]
	if len(name) > MaxCertName {
		return "", fmt.Errorf("the name has %d bytes, more than %d", len(name), MaxCertName)
	}
	return name, nil
}

// certValueName is certName for what must not be the root.
func certValueName(name string) (string, error) {
	clean, err := certName(name)
	if err == nil && clean == "" {
		err = errors.New("the name is empty")
	}
	return clean, err
}

// below adds the condition that a name is below a directory: a range, since "0"
// follows "/", and names are ordered by their bytes.
func below(w *where, dir string) {
	if dir != "" {
		w.add("name >= ? AND name < ?", dir+"/", dir+"0")
	}
}

// Store creates or overwrites a value.
func (s CertStore) Store(ctx context.Context, name string, value []byte) error {
	name, err := certValueName(name)
	if err != nil {
		return fmt.Errorf("storing a TLS resource: %w", err)
	}
	if len(value) > MaxCertValue {
		return fmt.Errorf("storing %s: it has %d bytes, more than %d", name, len(value), MaxCertValue)
	}
	sealed := s.db.keyring.Seal(certPlace(name), value)
	return s.db.Update(ctx, func(tx *Tx) error {
		_, err := tx.tx.ExecContext(ctx,
			`INSERT INTO cert_store (name, sealed, size, updated_at) VALUES ($1, $2, $3, $4)
			 ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, size = excluded.size, updated_at = excluded.updated_at`,
			name, sealed, len(value), tx.now.UnixMicro())
		if err != nil {
			return fmt.Errorf("storing %s: %w", name, tx.fail(err))
		}
		return nil
	})
}

// Load returns a value, or [ErrNotFound]. One that was tampered with, or sealed
// under a key that is not configured, is an error of another kind: whoever takes
// it for missing would make a new one in its place.
func (s CertStore) Load(ctx context.Context, name string) ([]byte, error) {
	name, err := certValueName(name)
	if err != nil {
		return nil, fmt.Errorf("loading a TLS resource: %w", err)
	}
	c, err := s.db.open()
	if err != nil {
		return nil, err
	}
	var sealed []byte
	if err := c.read.QueryRowContext(ctx, `SELECT sealed FROM cert_store WHERE name = $1`, name).Scan(&sealed); err != nil {
		return nil, fmt.Errorf("loading %s: %w", name, s.db.classify(err))
	}
	value, err := s.db.keyring.Open(certPlace(name), sealed)
	if err != nil {
		return nil, &damagedRowError{table: "cert_store", id: name, err: err}
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// Delete removes a value and everything below its name. What does not exist
// needs no removing.
func (s CertStore) Delete(ctx context.Context, name string) error {
	name, err := certValueName(name)
	if err != nil {
		return fmt.Errorf("deleting TLS resources: %w", err)
	}
	var subtree where
	below(&subtree, name)
	return s.db.Update(ctx, func(tx *Tx) error {
		_, err := tx.tx.ExecContext(ctx, `DELETE FROM cert_store WHERE name = $1`, name)
		if err == nil {
			_, err = tx.tx.ExecContext(ctx, `DELETE FROM cert_store`+subtree.String(), subtree.args...)
		}
		if err != nil {
			return fmt.Errorf("deleting %s: %w", name, tx.fail(err))
		}
		return nil
	})
}

// Stat describes a value or a directory, or is [ErrNotFound]. The root always
// exists.
func (s CertStore) Stat(ctx context.Context, name string) (CertInfo, error) {
	name, err := certName(name)
	if err != nil {
		return CertInfo{}, fmt.Errorf("looking up a TLS resource: %w", err)
	}
	c, err := s.db.open()
	if err != nil {
		return CertInfo{}, err
	}
	info := CertInfo{Name: name}
	if name == "" {
		info.Directory = true
		return info, nil
	}
	err = c.read.QueryRowContext(ctx, `SELECT size, updated_at FROM cert_store WHERE name = $1`, name).Scan(&info.Size, micros{&info.Modified})
	if errors.Is(err, sql.ErrNoRows) {
		var subtree where
		below(&subtree, name)
		var one int
		err = c.read.QueryRowContext(ctx, `SELECT 1 FROM cert_store`+subtree.String()+` LIMIT 1`, subtree.args...).Scan(&one)
		info = CertInfo{Name: name, Directory: true}
	}
	if err != nil {
		return CertInfo{}, fmt.Errorf("looking up %s: %w", name, s.db.classify(err))
	}
	return info, nil
}

// List returns the names in a directory, in order: its values and directories,
// and, if recursive, all that is below those as well. A directory that does not
// exist is [ErrNotFound]; a value has nothing in it.
func (s CertStore) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	info, err := s.Stat(ctx, dir)
	if err != nil {
		return nil, err
	}
	c, err := s.db.open()
	if err != nil {
		return nil, err
	}
	var subtree where
	below(&subtree, info.Name)
	rows, err := c.read.QueryContext(ctx, `SELECT name FROM cert_store`+subtree.String(), subtree.args...)
	tree := newCertTree(info.Name, recursive)
	if err == nil {
		err = eachRow(rows, func() error {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			tree.add(name)
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("listing %q: %w", info.Name, s.db.classify(err))
	}
	return tree.names(), nil
}

// certTree finds the directories that names imply.
type certTree struct {
	prefix    string // of all names
	recursive bool
	seen      map[string]struct{}
}

func newCertTree(dir string, recursive bool) *certTree {
	t := &certTree{recursive: recursive, seen: make(map[string]struct{})}
	if dir != "" {
		t.prefix = dir + "/"
	}
	return t
}

func (t *certTree) add(name string) {
	rest := name[len(t.prefix):]
	for i := range len(rest) {
		if rest[i] != '/' {
			continue
		}
		t.seen[name[:len(t.prefix)+i]] = struct{}{}
		if !t.recursive {
			return
		}
	}
	t.seen[name] = struct{}{}
}

func (t *certTree) names() []string {
	names := make([]string, 0, len(t.seen))
	for name := range t.seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
