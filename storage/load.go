package storage

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// The request path's queries. Each fetches all that a request needs at once, so
// that token, project and keys are of the same moment: one row a key, or one row
// with NULLs when the project has no active key.
const (
	credentialColumns = `k.id, k.provider, k.sealed, k.weight, k.priority`

	loadTokenSQL = `SELECT ` + tokenColumns + `, ` + projectColumns + `, ` + credentialColumns + `
		FROM tokens t
		JOIN projects p ON p.id = t.project_id
		LEFT JOIN provider_keys k ON k.project_id = p.id AND k.is_active = TRUE
		WHERE t.id = $1` + keyOrder

	loadProjectSQL = `SELECT ` + projectColumns + `, ` + credentialColumns + `
		FROM projects p
		LEFT JOIN provider_keys k ON k.project_id = p.id AND k.is_active = TRUE
		WHERE p.id = $1` + keyOrder
)

// credentialRow is a key while it is being scanned; all NULL when there is none.
type credentialRow struct {
	id               uuid.NullUUID
	provider         sql.NullString
	sealed           []byte
	weight, priority sql.NullInt64
}

// dest is where the columns of credentialColumns go.
func (r *credentialRow) dest() []any {
	return []any{&r.id, &r.provider, &r.sealed, &r.weight, &r.priority}
}

// LoadToken returns a token with its project and the secrets of the project's
// active keys, from one query, or [ErrNotFound]. A secret that does not open
// makes only its [project.Credential] unusable.
func (db *DB) LoadToken(ctx context.Context, id uuid.UUID) (*token.Record, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	var t tokenRow
	var p projectRow
	credentials, err := db.load(ctx, c.read, c.loadToken, id, t.dest(), &p)
	if err == nil {
		err = t.decode()
	}
	if err == nil {
		err = p.decode()
	}
	if err != nil {
		return nil, fmt.Errorf("loading token %s: %w", id, db.classify(err))
	}
	return &token.Record{Token: t.Token, Project: project.Snapshot{Project: p.Project, Credentials: credentials}}, nil
}

// LoadProject returns a project with the secrets of its active keys, from one
// query, or [ErrNotFound].
func (db *DB) LoadProject(ctx context.Context, id uuid.UUID) (*project.Snapshot, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	var p projectRow
	credentials, err := db.load(ctx, c.read, c.loadProject, id, nil, &p)
	if err == nil {
		err = p.decode()
	}
	if err != nil {
		return nil, fmt.Errorf("loading project %s: %w", id, db.classify(err))
	}
	return &project.Snapshot{Project: p.Project, Credentials: credentials}, nil
}

// load runs one of the two queries. Every row repeats the columns of first and p
// and ends in those of a credential, whose secrets are opened once the connection
// is free again.
func (db *DB) load(ctx context.Context, r rereader, stmt *sql.Stmt, id uuid.UUID, first []any, p *projectRow) ([]project.Credential, error) {
	rows, err := r.query(ctx, stmt, id)
	if err != nil {
		return nil, err
	}
	head := append(first, p.dest()...)
	var found []credentialRow
	err = eachRow(rows, func() error {
		var k credentialRow
		if err := rows.Scan(append(head, k.dest()...)...); err != nil {
			return err
		}
		found = append(found, k)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	var credentials []project.Credential
	for _, k := range found {
		if k.id.Valid {
			credentials = append(credentials, db.credential(p.ID, &k))
		}
	}
	return credentials, nil
}

// credential opens a key's secret.
func (db *DB) credential(projectID uuid.UUID, k *credentialRow) project.Credential {
	cred := project.Credential{
		KeyID:    k.id.UUID,
		Provider: k.provider.String,
		Weight:   int(k.weight.Int64),
		Priority: int(k.priority.Int64),
	}
	plain, err := db.keyring.Open(keyPlace(projectID, cred.KeyID), k.sealed)
	if err != nil {
		cred.Err = fmt.Errorf("provider key %s: %w", cred.KeyID, err)
		return cred
	}
	cred.Secret = secret.NewValue(string(plain))
	return cred
}
