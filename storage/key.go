package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const keyColumns = `k.id, k.project_id, k.provider, k.label, k.last4, k.weight, k.priority, k.is_active, k.created_at, k.updated_at`

// keyOrder is the order in which keys are listed and tried.
const keyOrder = ` ORDER BY k.provider, k.priority, k.id`

func keyDest(k *project.Key) []any {
	return []any{&k.ID, &k.ProjectID, &k.Provider, &k.Label, &k.Last4, &k.Weight, &k.Priority, &k.Active,
		micros{&k.CreatedAt}, micros{&k.UpdatedAt}}
}

// keyPlace is the additional data of a sealed key: moved to another key or
// project, it does not open.
func keyPlace(projectID, id uuid.UUID) string {
	return "provider_keys.sealed|" + projectID.String() + "|" + id.String()
}

func selectKeys(ctx context.Context, q querier, projectID uuid.UUID) ([]project.Key, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+keyColumns+` FROM provider_keys k WHERE k.project_id = $1`+keyOrder, projectID)
	if err != nil {
		return nil, err
	}
	keys := []project.Key{}
	err = eachRow(rows, func() error {
		var k project.Key
		if err := rows.Scan(keyDest(&k)...); err != nil {
			return err
		}
		keys = append(keys, k)
		return nil
	})
	return keys, err
}

func selectKey(ctx context.Context, q querier, projectID, id uuid.UUID, lock string) (*project.Key, error) {
	var k project.Key
	err := q.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM provider_keys k WHERE k.id = $1 AND k.project_id = $2`+lock,
		id, projectID).Scan(keyDest(&k)...)
	if err != nil {
		return nil, err
	}
	return &k, nil
}

// Keys lists a project's provider keys by provider, priority and id. An unknown
// project has none.
func (db *DB) Keys(ctx context.Context, projectID uuid.UUID) ([]project.Key, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	keys, err := selectKeys(ctx, c.read, projectID)
	if err != nil {
		return nil, fmt.Errorf("listing the keys of project %s: %w", projectID, db.classify(err))
	}
	return keys, nil
}

// Key returns one provider key of the project, or [ErrNotFound].
func (db *DB) Key(ctx context.Context, projectID, id uuid.UUID) (*project.Key, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	k, err := selectKey(ctx, c.read, projectID, id, "")
	if err != nil {
		return nil, fmt.Errorf("provider key %s: %w", id, db.classify(err))
	}
	return k, nil
}

// Keys lists a project's provider keys by provider, priority and id.
func (tx *Tx) Keys(ctx context.Context, projectID uuid.UUID) ([]project.Key, error) {
	keys, err := selectKeys(ctx, tx.tx, projectID)
	if err != nil {
		return nil, fmt.Errorf("listing the keys of project %s: %w", projectID, tx.fail(err))
	}
	return keys, nil
}

// Key returns one provider key of the project, or [ErrNotFound], and keeps others
// from changing it until the transaction ends.
func (tx *Tx) Key(ctx context.Context, projectID, id uuid.UUID) (*project.Key, error) {
	k, err := selectKey(ctx, tx.tx, projectID, id, tx.db.dialect.lockRow())
	if err != nil {
		return nil, fmt.Errorf("provider key %s: %w", id, tx.fail(err))
	}
	return k, nil
}

// CreateKey adds a provider key with its secret, which is sealed. It fills
// Last4, the time of change and, if zero, id and creation time. An unknown
// project is [ErrNotFound].
func (tx *Tx) CreateKey(ctx context.Context, k *project.Key, s secret.Value) error {
	if err := checkKey(k, &s); err != nil {
		return err
	}
	version, err := tx.bumpProject(ctx, k.ProjectID)
	if err != nil {
		return err
	}
	created := *k
	if created.ID.IsNil() {
		if created.ID, err = newID(tx.now); err != nil {
			return err
		}
	}
	if created.CreatedAt.IsZero() {
		created.CreatedAt = tx.now
	}
	created.CreatedAt, created.UpdatedAt = stored(created.CreatedAt), tx.now
	created.Last4 = cleanText(s.Last4())
	_, err = tx.tx.ExecContext(ctx,
		`INSERT INTO provider_keys (id, project_id, provider, label, sealed, last4, weight, priority, is_active, created_at, updated_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		created.ID, created.ProjectID, created.Provider, created.Label, tx.db.sealKey(&created, s), created.Last4,
		created.Weight, created.Priority, created.Active, created.CreatedAt.UnixMicro(), created.UpdatedAt.UnixMicro())
	if err != nil {
		return fmt.Errorf("creating a provider key: %w", tx.fail(err))
	}
	*k = created
	tx.changed(token.Change{Kind: token.ProjectChanged, ID: k.ProjectID, Version: version})
	return nil
}

// UpdateKey writes the key's label, weight, priority and state, and its secret
// unless s is nil. The provider never changes: the secret belongs to it.
func (tx *Tx) UpdateKey(ctx context.Context, k *project.Key, s *secret.Value) error {
	if err := checkKey(k, s); err != nil {
		return err
	}
	version, err := tx.bumpProject(ctx, k.ProjectID)
	if err != nil {
		return err
	}
	args := []any{k.Label, k.Weight, k.Priority, k.Active, tx.now.UnixMicro(), k.ID, k.ProjectID}
	set := ""
	if s != nil {
		set = ", sealed = $8, last4 = $9"
		args = append(args, tx.db.sealKey(k, *s), cleanText(s.Last4()))
	}
	var provider, last4 string
	err = tx.tx.QueryRowContext(ctx,
		`UPDATE provider_keys SET label = $1, weight = $2, priority = $3, is_active = $4, updated_at = $5`+set+
			` WHERE id = $6 AND project_id = $7 RETURNING provider, last4`, args...).Scan(&provider, &last4)
	if err != nil {
		return fmt.Errorf("updating provider key %s: %w", k.ID, tx.fail(err))
	}
	k.Provider, k.Last4, k.UpdatedAt = provider, last4, tx.now
	tx.changed(token.Change{Kind: token.ProjectChanged, ID: k.ProjectID, Version: version})
	return nil
}

// DeleteKey removes a provider key of the project.
func (tx *Tx) DeleteKey(ctx context.Context, projectID, id uuid.UUID) error {
	version, err := tx.bumpProject(ctx, projectID)
	if err != nil {
		return err
	}
	var deleted uuid.UUID
	err = tx.tx.QueryRowContext(ctx, `DELETE FROM provider_keys WHERE id = $1 AND project_id = $2 RETURNING id`, id, projectID).Scan(&deleted)
	if err != nil {
		return fmt.Errorf("deleting provider key %s: %w", id, tx.fail(err))
	}
	tx.changed(token.Change{Kind: token.ProjectChanged, ID: projectID, Version: version})
	return nil
}

func (db *DB) sealKey(k *project.Key, s secret.Value) []byte {
	return db.keyring.Seal(keyPlace(k.ProjectID, k.ID), []byte(s.Reveal()))
}

func checkKey(k *project.Key, s *secret.Value) error {
	if s != nil && s.IsZero() {
		return errors.New("the provider key's secret is empty")
	}
	if err := checkText("provider", k.Provider); err != nil {
		return err
	}
	return checkText("label", k.Label)
}
