package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// TokenFilter selects tokens. The zero filter selects all.
type TokenFilter struct {
	ProjectID uuid.UUID // zero: of every project
	Active    *bool     // as stored; an expired token may be active
	Query     string    // part of the name, in any case; no character is a wildcard
	After     Cursor
	Limit     int // zero: no limit
}

const tokenColumns = `t.id, t.project_id, t.name, t.is_active, t.revoked_at, t.revoke_reason, t.expires_at, t.policy,
	t.hash, t.hash_scheme, t.version, t.created_at, t.updated_at`

// tokenRow is a token while it is being scanned.
type tokenRow struct {
	token.Token
	policy string
}

// dest is where the columns of tokenColumns go.
func (r *tokenRow) dest() []any {
	return []any{&r.ID, &r.ProjectID, &r.Name, &r.Active, nullMicros{&r.RevokedAt}, &r.RevokeReason, nullMicros{&r.ExpiresAt}, &r.policy,
		&r.Hash, &r.HashScheme, &r.Version, micros{&r.CreatedAt}, micros{&r.UpdatedAt}}
}

// decode finishes the row. On a damaged row the token is still good for its id
// and times.
func (r *tokenRow) decode() error {
	if err := decodePolicy(r.policy, &r.Token.Policy); err != nil {
		return &damagedRowError{"tokens", r.ID.String(), err}
	}
	return nil
}

func selectToken(ctx context.Context, q querier, id uuid.UUID, lock string) (*token.Token, error) {
	var row tokenRow
	err := q.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM tokens t WHERE t.id = $1`+lock, id).Scan(row.dest()...)
	if err != nil {
		return nil, err
	}
	return &row.Token, row.decode()
}

// Token returns one token, or [ErrNotFound].
func (db *DB) Token(ctx context.Context, id uuid.UUID) (*token.Token, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	t, err := selectToken(ctx, c.read, id, "")
	if err != nil {
		return nil, fmt.Errorf("token %s: %w", id, db.classify(err))
	}
	return t, nil
}

// Tokens lists tokens, newest first.
func (db *DB) Tokens(ctx context.Context, f TokenFilter) ([]token.Token, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	list, err := listing[token.Token]{
		query: `SELECT ` + tokenColumns + ` FROM tokens t`,
		alias: "t",
		where: f.where,
		after: f.After,
		limit: f.Limit,
		scan: func(rows *sql.Rows) (token.Token, error) {
			var row tokenRow
			if err := rows.Scan(row.dest()...); err != nil {
				return token.Token{}, err
			}
			return row.Token, row.decode()
		},
		cursor: func(t *token.Token) Cursor { return Cursor{t.CreatedAt, t.ID} },
	}.run(ctx, c.read, db.logger)
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", db.classify(err))
	}
	return list, nil
}

// CountTokens counts the tokens that the filter selects, whatever its Limit and
// After.
func (db *DB) CountTokens(ctx context.Context, f TokenFilter) (int64, error) {
	c, err := db.open()
	if err != nil {
		return 0, err
	}
	n, err := count(ctx, c.read, "tokens t", f.where())
	if err != nil {
		return 0, fmt.Errorf("counting tokens: %w", db.classify(err))
	}
	return n, nil
}

func (f *TokenFilter) where() *where {
	w := &where{}
	if !f.ProjectID.IsNil() {
		w.add("t.project_id = ?", f.ProjectID)
	}
	if f.Active != nil {
		w.add("t.is_active = ?", *f.Active)
	}
	w.contains("t.name_folded", f.Query)
	return w
}

// Token returns one token, or [ErrNotFound], and keeps others from changing it
// until the transaction ends.
func (tx *Tx) Token(ctx context.Context, id uuid.UUID) (*token.Token, error) {
	t, err := selectToken(ctx, tx.tx, id, tx.db.dialect.lockRow())
	if err != nil {
		return nil, fmt.Errorf("token %s: %w", id, tx.failRead(err))
	}
	return t, nil
}

// CreateToken adds a token whose id, hash and scheme the caller has made; it
// fills the version, the time of change and, if zero, the creation time. An
// unknown project is [ErrNotFound].
func (tx *Tx) CreateToken(ctx context.Context, t *token.Token) error {
	policy, err := checkToken(t)
	if err != nil {
		return err
	}
	created := *t
	if created.CreatedAt.IsZero() {
		created.CreatedAt = tx.now
	}
	created.CreatedAt, created.UpdatedAt, created.Version = stored(created.CreatedAt), tx.now, 1
	created.RevokedAt, created.ExpiresAt = storedOrNil(t.RevokedAt), storedOrNil(t.ExpiresAt)
	created.RevokeReason = cleanText(t.RevokeReason)
	_, err = tx.tx.ExecContext(ctx,
		`INSERT INTO tokens (id, project_id, name, name_folded, is_active, revoked_at, revoke_reason, expires_at, policy,
			hash, hash_scheme, version, created_at, updated_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		created.ID, created.ProjectID, created.Name, fold(created.Name), created.Active, microsOrNull(created.RevokedAt),
		created.RevokeReason, microsOrNull(created.ExpiresAt), policy, created.Hash, created.HashScheme, created.Version,
		created.CreatedAt.UnixMicro(), created.UpdatedAt.UnixMicro())
	if err != nil {
		return fmt.Errorf("creating a token in project %s: %w", created.ProjectID, tx.fail(err))
	}
	*t = created
	return nil
}

// UpdateToken writes the token's name, state, revocation, expiry and policy, and
// raises its version.
func (tx *Tx) UpdateToken(ctx context.Context, t *token.Token) error {
	policy, err := checkToken(t)
	if err != nil {
		return err
	}
	updated := *t
	updated.RevokedAt, updated.ExpiresAt = storedOrNil(t.RevokedAt), storedOrNil(t.ExpiresAt)
	updated.RevokeReason, updated.UpdatedAt = cleanText(t.RevokeReason), tx.now
	err = tx.tx.QueryRowContext(ctx,
		`UPDATE tokens SET name = $1, name_folded = $2, is_active = $3, revoked_at = $4, revoke_reason = $5, expires_at = $6,
			policy = $7, version = version + 1, updated_at = $8
		 WHERE id = $9 RETURNING version`,
		updated.Name, fold(updated.Name), updated.Active, microsOrNull(updated.RevokedAt), updated.RevokeReason,
		microsOrNull(updated.ExpiresAt), policy, tx.now.UnixMicro(), updated.ID).Scan(&updated.Version)
	if err != nil {
		return fmt.Errorf("updating token %s: %w", t.ID, tx.fail(err))
	}
	if err := tx.setLimits(ctx, ledger.Token, updated.ID, updated.Version, &updated.Policy.Limits); err != nil {
		return err
	}
	*t = updated
	tx.changed(token.Change{Kind: token.TokenChanged, ID: t.ID, Version: t.Version, Revoked: !t.Active})
	return nil
}

// RevokeProjectTokens revokes every active token of the project, and tells how
// many it revoked and how many were inactive already.
func (tx *Tx) RevokeProjectTokens(ctx context.Context, projectID uuid.UUID, reason string) (revoked, already int64, err error) {
	version, err := tx.bumpProject(ctx, projectID)
	if err != nil {
		return 0, 0, err
	}
	done, err := tx.tx.ExecContext(ctx,
		`UPDATE tokens SET is_active = FALSE, revoked_at = $1, revoke_reason = $2, version = version + 1, updated_at = $1
		 WHERE project_id = $3 AND is_active = TRUE`,
		tx.now.UnixMicro(), cleanText(reason), projectID)
	if err == nil {
		revoked, err = done.RowsAffected()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("revoking the tokens of project %s: %w", projectID, tx.fail(err))
	}
	total, err := count(ctx, tx.tx, "tokens t", (&TokenFilter{ProjectID: projectID}).where())
	if err != nil {
		return 0, 0, fmt.Errorf("counting the tokens of project %s: %w", projectID, tx.fail(err))
	}
	tx.changed(token.Change{Kind: token.ProjectTokensRevoked, ID: projectID, Version: version, Revoked: true})
	return revoked, total - revoked, nil
}

func checkToken(t *token.Token) (policy string, err error) {
	if t.ID.IsNil() {
		return "", errors.New("the token has no id")
	}
	if err := checkText("name", t.Name); err != nil {
		return "", err
	}
	return encodePolicy(&t.Policy)
}
