package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// ImportTx adds rows that keep their ids and times. One that is there already is
// left as it is. Nobody is told of one that is new: what requests remember of an
// unknown token passes within seconds.
type ImportTx struct {
	*Tx
	dry bool
}

// Import runs fn as [DB.Update] does, waits for its turn for as long as it takes,
// and then leaves others as much time as it took itself. A dry one writes nothing,
// and tells what it would add.
func (db *DB) Import(ctx context.Context, dry bool, fn func(*ImportTx) error) error {
	return (&rotation{db: db}).patiently(ctx, func(tx *Tx) error { return fn(&ImportTx{tx, dry}) })
}

// has reports whether a table has a row.
func (tx *ImportTx) has(ctx context.Context, table string, id uuid.UUID) (bool, error) {
	n, err := count(ctx, tx.tx, table, (&where{}).with("id = ?", id))
	if err != nil {
		return false, fmt.Errorf("looking for %s %s: %w", table, id, tx.fail(err))
	}
	return n > 0, nil
}

func (w *where) with(condition string, args ...any) *where {
	w.add(condition, args...)
	return w
}

// insert adds a row, and reports whether it was not there.
func (tx *ImportTx) insert(ctx context.Context, table string, id uuid.UUID, query string, args ...any) (added bool, err error) {
	if known, err := tx.has(ctx, table, id); err != nil || known || tx.dry {
		return !known && err == nil, err
	}
	n, err := affected(tx.tx.ExecContext(ctx, query+` ON CONFLICT DO NOTHING`, args...))
	if err != nil {
		return false, fmt.Errorf("importing %s %s: %w", table, id, tx.fail(err))
	}
	return n > 0, nil
}

// AddProject adds a project. When another one has its name the error is
// [ErrConflict], which leaves the transaction usable.
func (tx *ImportTx) AddProject(ctx context.Context, p *project.Project) (added bool, err error) {
	policy, err := checkProject(p)
	if err != nil {
		return false, err
	}
	others, err := count(ctx, tx.tx, "projects", (&where{}).with("name = ?", p.Name).with("id <> ?", p.ID))
	if err != nil {
		return false, fmt.Errorf("looking for a project's name: %w", tx.fail(err))
	}
	if others > 0 {
		return false, fmt.Errorf("another project of this name %w", ErrConflict)
	}
	return tx.insert(ctx, "projects", p.ID,
		`INSERT INTO projects (id, name, name_folded, is_active, deactivated_at, use_shared_keys, policy, version, created_at, updated_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9)`,
		p.ID, p.Name, fold(p.Name), p.Active, microsOrNull(p.DeactivatedAt), p.UseSharedKeys, policy,
		p.CreatedAt.UnixMicro(), p.UpdatedAt.UnixMicro())
}

// AddKey adds a provider key, unless its project has one for the same provider.
// fresh says that this transaction has added the project, so that nobody knows it.
func (tx *ImportTx) AddKey(ctx context.Context, k *project.Key, s secret.Value, fresh bool) (added bool, err error) {
	if err := checkKey(k, &s); err != nil {
		return false, err
	}
	if fresh {
		return tx.insert(ctx, "provider_keys", k.ID,
			`INSERT INTO provider_keys (id, project_id, provider, label, sealed, last4, weight, priority, is_active, created_at, updated_at)
			 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			k.ID, k.ProjectID, k.Provider, k.Label, tx.db.sealKey(k, s), cleanText(s.Last4()), k.Weight, k.Priority, k.Active,
			k.CreatedAt.UnixMicro(), tx.now.UnixMicro())
	}
	if _, err := tx.Project(ctx, k.ProjectID); err != nil { // locks it
		return false, err
	}
	keys, err := tx.Keys(ctx, k.ProjectID)
	if err != nil {
		return false, err
	}
	for _, other := range keys {
		if other.Provider == k.Provider {
			return false, nil
		}
	}
	if tx.dry {
		return true, nil
	}
	return true, tx.CreateKey(ctx, k, s)
}

// AddToken adds a token, whose project must exist.
func (tx *ImportTx) AddToken(ctx context.Context, t *token.Token) (added bool, err error) {
	policy, err := checkToken(t)
	if err != nil {
		return false, err
	}
	return tx.insert(ctx, "tokens", t.ID,
		`INSERT INTO tokens (id, project_id, name, name_folded, is_active, revoked_at, revoke_reason, expires_at, policy,
			hash, hash_scheme, version, created_at, updated_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, $12, $13)`,
		t.ID, t.ProjectID, t.Name, fold(t.Name), t.Active, microsOrNull(t.RevokedAt), t.RevokeReason, microsOrNull(t.ExpiresAt),
		policy, t.Hash, t.HashScheme, t.CreatedAt.UnixMicro(), tx.now.UnixMicro())
}

// AddAudit adds an audit entry under the id that it has. It goes to no audit file:
// it was recorded when it happened.
func (tx *ImportTx) AddAudit(ctx context.Context, e audit.Entry) (added bool, err error) {
	if e.ID.IsNil() {
		return false, errors.New("the audit entry has no id")
	}
	cleanEntry(&e)
	return tx.insert(ctx, "audit_events", e.ID,
		`INSERT INTO audit_events (id, created_at, actor, action, outcome, target_type, target_id, project_id,
			client_ip, request_id, method, path, user_agent, reason, changes, occurrences)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, '{}', $15)`,
		e.ID, e.Time.UnixMicro(), e.Actor, e.Action, e.Outcome, e.TargetType, idOrNull(e.TargetID), idOrNull(e.ProjectID),
		e.ClientIP, e.RequestID, e.Method, e.Path, e.UserAgent, e.Reason, e.Occurrences)
}
