package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// sealedPlace is a table with envelopes in its column "sealed".
type sealedPlace struct {
	table string
	// columns are the primary key, which is one column, and what else the
	// additional data is made of.
	columns []string
	aad     func(values []string) string
	batch   int // rows that are re-sealed in one transaction
}

// sealedPlaces are all envelopes that there are. A new kind of secret is a line
// here: the check at start, the status and the rotation follow it.
var sealedPlaces = []sealedPlace{
	{"secrets", []string{"name"}, func(v []string) string { return secretsPlace + v[0] }, 100},
	{"provider_keys", []string{"id", "project_id"}, func(v []string) string {
		return keyPlace(uuid.FromStringOrNil(v[1]), uuid.FromStringOrNil(v[0]))
	}, 100},
	{"cert_store", []string{"name"}, func(v []string) string { return certPlace(v[0]) }, 8}, // some are large
}

// KeyUse counts the rows of a table that are sealed under one encryption key.
type KeyUse struct {
	Table string
	KeyID string // "": these rows hold no envelope at all
	Rows  int64
}

// EncryptionStatus says which encryption keys there are and which are needed.
type EncryptionStatus struct {
	Keys []string // ids of those that are configured; the first one seals
	Uses []KeyUse // by table and key id; rows that need a key may not open with it
}

// Older counts the rows under keys that are configured after the first one.
func (s *EncryptionStatus) Older() int64 {
	return s.count(func(id string) bool { return slices.Index(s.Keys, id) > 0 })
}

// Lost counts the rows that cannot be opened for want of a key, or because they
// hold no envelope.
func (s *EncryptionStatus) Lost() int64 {
	return s.count(func(id string) bool { return !slices.Contains(s.Keys, id) })
}

// Rows counts all rows.
func (s *EncryptionStatus) Rows() int64 { return s.count(func(string) bool { return true }) }

func (s *EncryptionStatus) count(key func(id string) bool) (n int64) {
	for _, use := range s.Uses {
		if key(use.KeyID) {
			n += use.Rows
		}
	}
	return n
}

// Missing are the ids of keys that rows need and that are not configured.
func (s *EncryptionStatus) Missing() []string {
	var ids []string
	for _, use := range s.Uses {
		if use.KeyID != "" && !slices.Contains(s.Keys, use.KeyID) && !slices.Contains(ids, use.KeyID) {
			ids = append(ids, use.KeyID)
		}
	}
	return ids
}

// EncryptionStatus counts the sealed rows by table and key. It opens none, so a
// row that is damaged counts for the key that it names.
func (db *DB) EncryptionStatus(ctx context.Context) (*EncryptionStatus, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	s, err := encryptionStatus(ctx, c.read, db.keyring)
	if err != nil {
		return nil, db.classify(err)
	}
	return s, nil
}

func encryptionStatus(ctx context.Context, q querier, ring *secret.Keyring) (*EncryptionStatus, error) {
	s := &EncryptionStatus{Keys: ring.KeyIDs()}
	for _, place := range sealedPlaces {
		rows, err := q.QueryContext(ctx, fmt.Sprintf(
			`SELECT CASE WHEN length(sealed) >= %d THEN substr(sealed, 1, %d) END, COUNT(*) FROM %s GROUP BY 1`,
			secret.MinEnvelope, secret.PrefixSize, place.table))
		counts := make(map[string]int64)
		if err == nil {
			err = eachRow(rows, func() error {
				var prefix []byte
				var n int64
				if err := rows.Scan(&prefix, &n); err != nil {
					return err
				}
				counts[secret.PrefixKeyID(prefix)] += n
				return nil
			})
		}
		if err != nil {
			return nil, fmt.Errorf("counting the encryption keys of %s: %w", place.table, err)
		}
		for id, n := range counts {
			s.Uses = append(s.Uses, KeyUse{Table: place.table, KeyID: id, Rows: n})
		}
	}
	slices.SortStableFunc(s.Uses, func(a, b KeyUse) int {
		if a.Table != b.Table {
			return 0 // in the order of places already
		}
		return strings.Compare(a.KeyID, b.KeyID)
	})
	return s, nil
}

// checkKeys refuses to work when there are rows that need a key that is not
// configured: it was forgotten, and every hour without it makes that dearer. A row
// that is damaged harms only itself.
func checkKeys(ctx context.Context, q querier, ring *secret.Keyring) error {
	s, err := encryptionStatus(ctx, q, ring)
	if err != nil {
		return err
	}
	if missing := s.Missing(); len(missing) > 0 {
		return &MissingKeyError{KeyIDs: missing, Uses: s.Uses}
	}
	return nil
}

// UseKeys replaces the encryption keys while the database goes on working. With
// check, when it is open and rows need other keys, it changes nothing and fails:
// [*MissingKeyError].
func (db *DB) UseKeys(ctx context.Context, ring *secret.Keyring, check bool) error {
	if c := db.conns.Load(); c != nil && check {
		if err := checkKeys(ctx, c.read, ring); err != nil {
			return db.classify(err)
		}
	}
	db.keyring.Replace(ring)
	return nil
}

// MissingKeyError says that rows need encryption keys that are not configured. It
// is a [*secret.UnknownKeyError] for the first of them.
type MissingKeyError struct {
	KeyIDs []string
	Uses   []KeyUse // of all keys
}

func (e *MissingKeyError) Error() string {
	var keys []string
	for _, id := range e.KeyIDs {
		var tables []string
		for _, use := range e.Uses {
			if use.KeyID == id {
				tables = append(tables, fmt.Sprintf("%d of %s", use.Rows, use.Table))
			}
		}
		keys = append(keys, id+" ("+strings.Join(tables, ", ")+")")
	}
	what := "key " + keys[0] + ", which is not configured: add it"
	if len(keys) > 1 {
		what = "keys " + strings.Join(keys, " and ") + ", which are not configured: add them"
	}
	return "rows are sealed under encryption " + what + " after the current one, as in encryption_key <current> <older>; `caddy llm-proxy encrypt status` tells who needs which"
}

// Unwrap makes the error one of package secret's.
func (e *MissingKeyError) Unwrap() error { return &secret.UnknownKeyError{KeyID: e.KeyIDs[0]} }
