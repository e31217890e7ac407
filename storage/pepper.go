package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// pepperName is the pepper's row in the secrets table, and pepperPlace the
// additional data it is sealed with.
const (
	pepperName  = "token_pepper"
	pepperPlace = secretsPlace + pepperName

	secretsPlace = "secrets.sealed|" // and the name
)

// openPepper returns the key of all token hashes, making it once. Two starters
// that make one at the same time agree on the row that was there first.
func (db *DB) openPepper(ctx context.Context, writer *sql.DB) ([]byte, error) {
	pepper, err := db.readPepper(ctx, writer)
	if !errors.Is(err, errNoPepper) {
		return pepper, err
	}
	fresh := make([]byte, token.PepperSize)
	_, _ = rand.Read(fresh) // never fails since Go 1.24
	_, err = writer.ExecContext(ctx, `INSERT INTO secrets (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
		pepperName, db.keyring.Seal(pepperPlace, fresh))
	if err != nil {
		return nil, fmt.Errorf("making the token pepper: %w", err)
	}
	return db.readPepper(ctx, writer)
}

var errNoPepper = errors.New("there is no token pepper, without which no token can be checked")

// readPepper returns the key of all token hashes, which must be there.
func (db *DB) readPepper(ctx context.Context, q querier) ([]byte, error) {
	var sealed []byte
	err := q.QueryRowContext(ctx, `SELECT sealed FROM secrets WHERE name = $1`, pepperName).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoPepper
	}
	if err != nil {
		return nil, fmt.Errorf("reading the token pepper: %w", err)
	}
	pepper, err := db.keyring.Open(pepperPlace, sealed)
	if unknown := (*secret.UnknownKeyError)(nil); errors.As(err, &unknown) {
		return nil, fmt.Errorf("the token pepper, without which no token can be checked, is %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("the token pepper, without which no token can be checked, cannot be read: %w; restore the database from a backup", err)
	}
	if len(pepper) != token.PepperSize {
		return nil, fmt.Errorf("the token pepper has %d bytes instead of %d; restore the database from a backup", len(pepper), token.PepperSize)
	}
	return pepper, nil
}
