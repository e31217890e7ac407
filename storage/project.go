package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// ProjectFilter selects projects. The zero filter selects all.
type ProjectFilter struct {
	Active *bool
	Query  string // part of the name, in any case; no character is a wildcard
	After  Cursor
	Limit  int // zero: no limit
}

const projectColumns = `p.id, p.name, p.is_active, p.deactivated_at, p.use_shared_keys, p.policy, p.version, p.created_at, p.updated_at`

// projectRow is a project while it is being scanned.
type projectRow struct {
	project.Project
	policy string
}

// dest is where the columns of projectColumns go.
func (r *projectRow) dest() []any {
	return []any{&r.ID, &r.Name, &r.Active, nullMicros{&r.DeactivatedAt}, &r.UseSharedKeys, &r.policy,
		&r.Version, micros{&r.CreatedAt}, micros{&r.UpdatedAt}}
}

// decode finishes the row. On a damaged row the project is still good for its
// id and times.
func (r *projectRow) decode() error {
	if err := decodePolicy(r.policy, &r.Project.Policy); err != nil {
		return &damagedRowError{"projects", r.ID.String(), err}
	}
	return nil
}

func selectProject(ctx context.Context, q querier, id uuid.UUID, lock string) (*project.Project, error) {
	var row projectRow
	err := q.QueryRowContext(ctx, `SELECT `+projectColumns+` FROM projects p WHERE p.id = $1`+lock, id).Scan(row.dest()...)
	if err != nil {
		return nil, err
	}
	return &row.Project, row.decode()
}

// Project returns one project, or [ErrNotFound].
func (db *DB) Project(ctx context.Context, id uuid.UUID) (*project.Project, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	p, err := selectProject(ctx, c.read, id, "")
	if err != nil {
		return nil, fmt.Errorf("project %s: %w", id, db.classify(err))
	}
	return p, nil
}

// Projects lists projects, newest first.
func (db *DB) Projects(ctx context.Context, f ProjectFilter) ([]project.Project, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	list, err := listing[project.Project]{
		query: `SELECT ` + projectColumns + ` FROM projects p`,
		alias: "p",
		where: f.where,
		after: f.After,
		limit: f.Limit,
		scan: func(rows *sql.Rows) (project.Project, error) {
			var row projectRow
			if err := rows.Scan(row.dest()...); err != nil {
				return project.Project{}, err
			}
			return row.Project, row.decode()
		},
		cursor: func(p *project.Project) Cursor { return Cursor{p.CreatedAt, p.ID} },
	}.run(ctx, c.read, db.logger)
	if err != nil {
		return nil, fmt.Errorf("listing projects: %w", db.classify(err))
	}
	return list, nil
}

// CountProjects counts the projects that the filter selects, whatever its Limit
// and After.
func (db *DB) CountProjects(ctx context.Context, f ProjectFilter) (int64, error) {
	c, err := db.open()
	if err != nil {
		return 0, err
	}
	n, err := count(ctx, c.read, "projects p", f.where())
	if err != nil {
		return 0, fmt.Errorf("counting projects: %w", db.classify(err))
	}
	return n, nil
}

func (f *ProjectFilter) where() *where {
	w := &where{}
	if f.Active != nil {
		w.add("p.is_active = ?", *f.Active)
	}
	w.contains("p.name_folded", f.Query)
	return w
}

// Project returns one project, or [ErrNotFound], and keeps others from changing
// it until the transaction ends.
func (tx *Tx) Project(ctx context.Context, id uuid.UUID) (*project.Project, error) {
	p, err := selectProject(ctx, tx.tx, id, tx.db.dialect.lockRow())
	if err != nil {
		return nil, fmt.Errorf("project %s: %w", id, tx.failRead(err))
	}
	return p, nil
}

// CreateProject adds a project, filling what is zero of its id and creation
// time, and its version and time of change. A name in use is [ErrConflict].
func (tx *Tx) CreateProject(ctx context.Context, p *project.Project) error {
	policy, err := checkProject(p)
	if err != nil {
		return err
	}
	created := *p
	if created.ID.IsNil() {
		if created.ID, err = newID(tx.now); err != nil {
			return err
		}
	}
	if created.CreatedAt.IsZero() {
		created.CreatedAt = tx.now
	}
	created.CreatedAt = stored(created.CreatedAt)
	created.UpdatedAt, created.Version = tx.now, 1
	created.DeactivatedAt = storedOrNil(created.DeactivatedAt)
	_, err = tx.tx.ExecContext(ctx,
		`INSERT INTO projects (id, name, name_folded, is_active, deactivated_at, use_shared_keys, policy, version, created_at, updated_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		created.ID, created.Name, fold(created.Name), created.Active, microsOrNull(created.DeactivatedAt), created.UseSharedKeys,
		policy, created.Version, created.CreatedAt.UnixMicro(), created.UpdatedAt.UnixMicro())
	if err != nil {
		return fmt.Errorf("creating a project: %w", tx.fail(err))
	}
	*p = created
	return nil
}

// UpdateProject writes the project's name, state, use of shared keys and policy,
// and raises its version. A name in use is [ErrConflict].
func (tx *Tx) UpdateProject(ctx context.Context, p *project.Project) error {
	policy, err := checkProject(p)
	if err != nil {
		return err
	}
	var version int64
	deactivated := storedOrNil(p.DeactivatedAt)
	err = tx.tx.QueryRowContext(ctx,
		`UPDATE projects SET name = $1, name_folded = $2, is_active = $3, deactivated_at = $4, use_shared_keys = $5,
			policy = $6, version = version + 1, updated_at = $7
		 WHERE id = $8 RETURNING version`,
		p.Name, fold(p.Name), p.Active, microsOrNull(deactivated), p.UseSharedKeys, policy, tx.now.UnixMicro(), p.ID).Scan(&version)
	if err != nil {
		return fmt.Errorf("updating project %s: %w", p.ID, tx.fail(err))
	}
	if err := tx.setLimits(ctx, ledger.Project, p.ID, version, &p.Policy.Limits); err != nil {
		return err
	}
	p.Version, p.UpdatedAt, p.DeactivatedAt = version, tx.now, deactivated
	tx.changed(token.Change{Kind: token.ProjectChanged, ID: p.ID, Version: version, Revoked: !p.Active})
	return nil
}

func checkProject(p *project.Project) (policy string, err error) {
	if err := checkText("name", p.Name); err != nil {
		return "", err
	}
	return encodePolicy(&p.Policy)
}

// failRead is fail for reads: a damaged row leaves the transaction usable.
func (tx *Tx) failRead(err error) error {
	if bad := (*damagedRowError)(nil); errors.As(err, &bad) {
		return err
	}
	return tx.fail(err)
}
