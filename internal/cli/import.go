package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/predecessor"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// importBatch is how many rows are written in one transaction.
const importBatch = 200

// auditTimeout bounds recording an import that was interrupted.
const auditTimeout = 10 * time.Second

// Import is what comes from the predecessor, and where it goes.
type Import struct {
	To        Encryption          // our database
	From      string              // the predecessor's: a path or a DSN
	Opener    *predecessor.Opener // for its keys; nil: there is no ENCRYPTION_KEY
	Provider  string              // that its projects' keys are for
	DryRun    bool
	Caddyfile string // of its providers, to be told with the result
}

// ImportPredecessor adds what is in the predecessor's database to ours, and
// changes nothing that is there. Rows that cannot be imported are an error, in the
// end.
func ImportPredecessor(ctx context.Context, out Output, in Import) (err error) {
	from, err := storage.OpenPredecessor(ctx, in.From)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	db, err := in.To.openWith(ctx, false)
	if err != nil {
		return err
	}
	defer db.Close()

	i := &importer{
		ctx: ctx, db: db, out: out, dry: in.DryRun, report: newImportReport(in), told: time.Now(), projects: make(map[uuid.UUID]bool),
		convert: &predecessor.Converter{Opener: in.Opener, Provider: in.Provider, Pepper: db.Pepper(), Now: time.Now().UTC().Truncate(time.Microsecond)},
	}
	err = i.run(from)
	if auditErr := i.audit(err); err == nil {
		err = auditErr
	}
	if err != nil {
		return fmt.Errorf("%w; what was imported stays: run the command again to go on", err)
	}
	return i.report.show(out)
}

// importer is one run.
type importer struct {
	ctx      context.Context
	db       *storage.DB
	out      Output
	dry      bool
	convert  *predecessor.Converter
	report   *importReport
	told     time.Time
	projects map[uuid.UUID]bool // that are in our database now
}

func (i *importer) run(from *storage.Predecessor) error {
	for _, table := range []func(*storage.Predecessor) error{i.runProjects, i.runTokens, i.runAudit} {
		if err := table(from); err != nil {
			return err
		}
	}
	return nil
}

func (i *importer) runProjects(from *storage.Predecessor) error {
	b := batch[*predecessor.Project]{i: i, write: i.addProject}
	err := from.Projects(i.ctx, func(row *predecessor.ProjectRow) error {
		i.progress("projects")
		p, err := i.convert.Project(row)
		if err != nil {
			i.report.skip("projects", rowName(row.ID), err)
			return nil
		}
		return b.add(p)
	})
	return b.end(err)
}

// addProject adds a project and its key.
func (i *importer) addProject(tx *storage.ImportTx, p *predecessor.Project, r *importReport) error {
	added, err := tx.AddProject(i.ctx, &p.Project)
	if errors.Is(err, storage.ErrConflict) {
		r.skip("projects", p.ID.String(), err)
		return nil
	}
	if err != nil {
		return err
	}
	r.count("projects", added)
	i.projects[p.ID] = true // if this transaction fails, so does the run
	switch {
	case p.KeyErr != nil:
		r.skip("provider_keys", "of project "+p.ID.String(), fmt.Errorf("api_key: %w", p.KeyErr))
	case p.Key != nil:
		added, err := tx.AddKey(i.ctx, p.Key, p.Secret, added)
		if err != nil {
			return err
		}
		r.count("provider_keys", added)
	}
	return nil
}

func (i *importer) runTokens(from *storage.Predecessor) error {
	b := batch[*predecessor.Token]{i: i, write: func(tx *storage.ImportTx, t *predecessor.Token, r *importReport) error {
		added, err := tx.AddToken(i.ctx, &t.Token)
		if err != nil {
			return err
		}
		r.count("tokens", added)
		if added && t.Limited {
			r.Limited++
		}
		return nil
	}}
	nth := 0
	err := from.Tokens(i.ctx, func(row *predecessor.TokenRow) error {
		i.progress("tokens")
		nth++
		name := rowName(row.ID)
		if row.ID == nil { // only its secret tells it from others
			name = fmt.Sprintf("number %d", nth)
		}
		t, err := i.convert.Token(row)
		if err == nil && !i.projects[t.ProjectID] {
			err = fmt.Errorf("its project %s was not imported", t.ProjectID)
		}
		if err != nil {
			i.report.skip("tokens", name, err)
			return nil
		}
		i.report.Requests += t.Requests
		for _, note := range t.Notes {
			i.out.Notice("token %s: %s", name, note)
		}
		return b.add(t)
	})
	return b.end(err)
}

func (i *importer) runAudit(from *storage.Predecessor) error {
	b := batch[*audit.Entry]{i: i, write: func(tx *storage.ImportTx, e *audit.Entry, r *importReport) error {
		added, err := tx.AddAudit(i.ctx, *e)
		if err == nil {
			r.count("audit_events", added)
		}
		return err
	}}
	err := from.AuditEvents(i.ctx, func(row *predecessor.AuditRow) error {
		i.progress("audit_events")
		e, err := i.convert.Audit(row)
		if err != nil {
			i.report.skip("audit_events", rowName(row.ID), err)
			return nil
		}
		return b.add(e)
	})
	return b.end(err)
}

// progress tells how far a long run is.
func (i *importer) progress(table string) {
	if now := time.Now(); now.Sub(i.told) >= progressEvery {
		i.told = now
		done := i.report.table(table)
		i.out.Notice("%s: %d imported, %d there already", table, done.Imported, done.Present)
	}
}

// audit records what was added, also when the run failed or was interrupted.
func (i *importer) audit(failure error) error {
	changes := make(map[string]audit.Change)
	for _, t := range i.report.Tables {
		if t.Imported > 0 {
			changes[t.Table] = audit.Change{After: t.Imported}
		}
	}
	if len(changes) == 0 || i.dry {
		return nil
	}
	e := audit.Entry{Actor: audit.ActorCommandLine, Action: audit.PredecessorImport, Outcome: audit.OutcomeSuccess, Changes: changes}
	if failure != nil {
		e.Outcome, e.Reason = audit.OutcomeFailure, "incomplete"
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(i.ctx), auditTimeout)
	defer cancel()
	return i.db.Update(ctx, func(tx *storage.Tx) error { return tx.Audit(ctx, e) })
}

// batch collects rows, and writes them in one transaction.
type batch[T any] struct {
	i     *importer
	rows  []T
	write func(tx *storage.ImportTx, row T, to *importReport) error
}

func (b *batch[T]) add(row T) error {
	if b.rows = append(b.rows, row); len(b.rows) < importBatch {
		return nil
	}
	return b.flush()
}

// end writes the rest, unless reading ended with an error.
func (b *batch[T]) end(err error) error {
	if err != nil {
		return err
	}
	return b.flush()
}

// flush writes what was collected. What a transaction reports counts once it is
// committed: it may run more than once.
func (b *batch[T]) flush() error {
	if len(b.rows) == 0 {
		return nil
	}
	var done *importReport
	err := b.i.db.Import(b.i.ctx, b.i.dry, func(tx *storage.ImportTx) error {
		done = new(importReport)
		for _, row := range b.rows {
			if err := b.write(tx, row, done); err != nil {
				return err
			}
		}
		return nil
	})
	b.rows = nil
	if err != nil {
		return err
	}
	b.i.report.add(done)
	return nil
}

// rowName is a row's id as it may be shown.
func rowName(id *string) string {
	if id == nil || *id == "" {
		return "(no id)"
	}
	const longest = 64
	if len(*id) > longest {
		return OneLine((*id)[:longest]) + "…"
	}
	return OneLine(*id)
}
