package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// progressEvery is how often a long command says how far it is.
const progressEvery = time.Second

// Encryption is a database whose encryption keys are looked after. It is opened
// directly, whether or not a proxy uses it at the same time.
type Encryption struct {
	Database
	Keyring func() (*secret.Keyring, error) // of the configuration; asked when there is a database
}

// open opens the database whatever keys are missing, and makes and migrates
// nothing.
func (e Encryption) open(ctx context.Context) (*storage.DB, error) { return e.openWith(ctx, true) }

// openWith is open, unless anyKeys is false: then all keys must be there.
func (e Encryption) openWith(ctx context.Context, anyKeys bool) (*storage.DB, error) {
	s, err := readSchema(ctx, e.Database)
	if err == nil {
		err = s.problem()
	}
	if err != nil {
		return nil, err
	}
	ring, err := e.Keyring()
	if err != nil {
		return nil, err
	}
	db, err := storage.New(storage.Config{Driver: e.Driver, DSN: e.DSN, Keyring: ring, NoMigrate: true, AnyKeys: anyKeys})
	if err != nil {
		return nil, err
	}
	if err := db.Open(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// States of an encryption key.
const (
	keyCurrent = "current" // the first one, which seals
	keyOlder   = "older"   // configured after it
	keyMissing = "missing" // not configured
	keyNone    = "damaged" // not a key: rows that hold no envelope
)

type encryptionKeyView struct {
	ID     string           `json:"id"`
	State  string           `json:"state"`
	Rows   int64            `json:"rows"`
	Tables map[string]int64 `json:"tables"`
}

// encryptionKeys lists the keys that are configured, then others that rows need.
func encryptionKeys(s *storage.EncryptionStatus) []encryptionKeyView {
	var keys []encryptionKeyView
	find := func(id, state string) *encryptionKeyView {
		i := slices.IndexFunc(keys, func(k encryptionKeyView) bool { return k.ID == id })
		if i < 0 {
			i = len(keys)
			keys = append(keys, encryptionKeyView{ID: id, State: state, Tables: map[string]int64{}})
		}
		return &keys[i]
	}
	for i, id := range s.Keys {
		find(id, map[bool]string{true: keyCurrent, false: keyOlder}[i == 0])
	}
	for _, id := range s.Missing() {
		find(id, keyMissing)
	}
	for _, use := range s.Uses {
		k := find(use.KeyID, keyNone)
		k.Rows += use.Rows
		k.Tables[use.Table] += use.Rows
	}
	return keys
}

// EncryptStatus lists the encryption keys and how many rows need each of them.
// Rows that no configured key opens are an error.
func EncryptStatus(ctx context.Context, out Output, e Encryption) error {
	db, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := db.EncryptionStatus(ctx)
	if err != nil {
		return err
	}
	keys := encryptionKeys(s)
	if out.JSON {
		err = out.value(struct {
			Database string              `json:"database"`
			Keys     []encryptionKeyView `json:"keys"`
		}{e.Database.String(), keys})
	} else {
		rows := make([][]string, len(keys))
		for i, k := range keys {
			var tables []string
			for _, table := range slices.Sorted(maps.Keys(k.Tables)) {
				tables = append(tables, fmt.Sprintf("%d of %s", k.Tables[table], table))
			}
			rows[i] = []string{k.ID, k.State, strconv.FormatInt(k.Rows, 10), strings.Join(tables, ", ")}
		}
		err = out.table([]string{"KEY", "STATE", "ROWS", "WHERE"}, rows)
	}
	if err != nil {
		return err
	}
	if missing := s.Missing(); len(missing) > 0 {
		return fmt.Errorf("%s sealed under a key that is not configured (%s): add it to encryption_key after the current one, else the next start is refused",
			plural(int(s.Lost()), "row is", "rows are"), strings.Join(missing, ", "))
	}
	if lost := s.Lost(); lost > 0 {
		return fmt.Errorf("%s sealed at all: `caddy llm-proxy encrypt rotate` names them", plural(int(lost), "row is not", "rows are not"))
	}
	return nil
}

type unopenedView struct {
	Table string `json:"table"`
	ID    string `json:"id"`
	Error string `json:"error"`
}

// EncryptRotate seals everything under the first key. Rows that do not open, and
// rows that somebody keeps writing under another key, are an error.
func EncryptRotate(ctx context.Context, out Output, e Encryption) error {
	db, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	told := time.Now()
	report, err := db.Rotate(ctx, func(p storage.RotateProgress) {
		if now := time.Now(); now.Sub(told) >= progressEvery {
			told = now
			out.Notice("%s: %d of %d rows looked at, %d re-sealed", p.Table, p.Seen, p.Rows, p.Resealed)
		}
	})
	if err != nil {
		return fmt.Errorf("%w; what was re-sealed stays so: run the command again to go on", err)
	}
	unopened := make([]unopenedView, 0, len(report.Unopened))
	for _, row := range report.Unopened {
		unopened = append(unopened, unopenedView{row.Table, row.ID, row.Err.Error()})
		out.Notice("left alone: %s %s: %v", row.Table, row.ID, row.Err)
	}
	if more := report.UnopenedRows - int64(len(report.Unopened)); more > 0 {
		out.Notice("left alone: %d more", more)
	}
	if out.JSON {
		err = out.value(struct {
			Database     string         `json:"database"`
			KeyID        string         `json:"key_id"`
			Rows         int64          `json:"rows"`
			Resealed     int64          `json:"resealed"`
			Older        int64          `json:"older"`
			UnopenedRows int64          `json:"unopened_rows"`
			Unopened     []unopenedView `json:"unopened"`
		}{e.Database.String(), report.KeyID, report.Rows, report.Resealed, report.Older, report.UnopenedRows, unopened})
	} else {
		_, err = fmt.Fprintf(out.Out, "re-sealed %d of %d rows under key %s\n", report.Resealed, report.Rows, report.KeyID)
	}
	switch {
	case err != nil:
		return err
	case report.UnopenedRows > 0:
		return fmt.Errorf("%s not open: keep the older keys, add what is missing, and set damaged secrets anew",
			plural(int(report.UnopenedRows), "row does", "rows do"))
	case report.Older > 0:
		return fmt.Errorf("%s written under an older key meanwhile: reload all nodes with this configuration, then run the command again",
			plural(int(report.Older), "row was", "rows were"))
	}
	return nil
}
