package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
)

// AuditQuery selects audit entries. The zero query selects all; texts are
// compared as a whole, but for Search.
type AuditQuery struct {
	Action    string
	Actor     string
	Outcome   string
	ClientIP  string
	RequestID string
	Method    string
	Path      string
	ProjectID uuid.UUID
	TargetID  uuid.UUID
	TokenID   uuid.UUID // entries about this token
	From, To  time.Time // both inclusive

	// Search is a part of any of the entry's texts, or of its project's or target's
	// id, without regard to case in ASCII.
	Search string
}

// searchedColumns hold what Search looks for. Ids are not text in every dialect.
var searchedColumns = []string{
	"a.actor", "a.action", "a.outcome", "a.client_ip", "a.request_id", "a.method", "a.path", "a.user_agent", "a.reason",
	"COALESCE(CAST(a.project_id AS TEXT), '')", "COALESCE(CAST(a.target_id AS TEXT), '')",
}

// maxAuditSearch is more than any searched column is worth searching for.
const maxAuditSearch = 1024

func (q *AuditQuery) where() *where {
	w := &where{}
	for _, text := range []struct{ column, want string }{
		{"a.action", q.Action}, {"a.actor", q.Actor}, {"a.outcome", q.Outcome}, {"a.client_ip", q.ClientIP},
		{"a.request_id", q.RequestID}, {"a.method", q.Method}, {"a.path", q.Path},
	} {
		if text.want != "" {
			w.equals(text.column, text.want)
		}
	}
	if !q.ProjectID.IsNil() {
		w.add("a.project_id = ?", q.ProjectID)
	}
	if !q.TargetID.IsNil() {
		w.add("a.target_id = ?", q.TargetID)
	}
	if !q.TokenID.IsNil() {
		w.add("a.target_id = ?", q.TokenID)
		w.add("a.target_type = ?", audit.TargetToken)
	}
	if !q.From.IsZero() {
		w.add("a.created_at >= ?", q.From.UnixMicro())
	}
	if !q.To.IsZero() {
		w.add("a.created_at <= ?", q.To.UnixMicro())
	}
	q.search(w)
	return w
}

// search looks for the text as it is: none of its characters is a wildcard.
// lower is that of ASCII in every dialect, so the text is lowered likewise.
func (q *AuditQuery) search(w *where) {
	switch {
	case q.Search == "":
		return
	case len(q.Search) > maxAuditSearch || checkText("search", q.Search) != nil:
		w.conditions = append(w.conditions, "FALSE") // in no column
		return
	}
	pattern := w.param("%" + escapeLike.Replace(lowerASCII(q.Search)) + "%")
	alternatives := make([]string, 0, len(searchedColumns))
	for _, column := range searchedColumns {
		alternatives = append(alternatives, "LOWER("+column+") LIKE "+pattern+" ESCAPE '!'")
	}
	w.conditions = append(w.conditions, "("+strings.Join(alternatives, " OR ")+")")
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// AuditPage returns size entries at most, newest first, after the first offset
// ones, and how many the query selects in all. Damaged rows are counted, logged
// and left out.
func (db *DB) AuditPage(ctx context.Context, q AuditQuery, offset, size int64) ([]audit.Entry, int64, error) {
	c, err := db.open()
	if err != nil {
		return nil, 0, err
	}
	entries := []audit.Entry{}
	w := q.where()
	total, err := count(ctx, c.read, "audit_events a", w)
	if err != nil {
		return nil, 0, fmt.Errorf("counting audit entries: %w", db.classify(err))
	}
	if offset >= total || size <= 0 { // spares walking over all rows to find none behind them
		return entries, total, nil
	}
	rows, err := c.read.QueryContext(ctx, `SELECT `+auditColumns+` FROM audit_events a`+w.String()+
		` ORDER BY a.created_at DESC, a.id DESC LIMIT `+w.param(size)+` OFFSET `+w.param(max(offset, 0)), w.args...)
	if err != nil {
		return nil, 0, fmt.Errorf("listing audit entries: %w", db.classify(err))
	}
	err = eachRow(rows, func() error {
		e, err := scanAudit(rows)
		if bad := (*damagedRowError)(nil); errors.As(err, &bad) {
			db.logger.Error("database row left out of a list", "error", bad)
			return nil
		}
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("listing audit entries: %w", db.classify(err))
	}
	return entries, total, nil
}

// AuditEntry returns one entry, or [ErrNotFound].
func (db *DB) AuditEntry(ctx context.Context, id uuid.UUID) (*audit.Entry, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	rows, err := c.read.QueryContext(ctx, `SELECT `+auditColumns+` FROM audit_events a WHERE a.id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("audit entry %s: %w", id, db.classify(err))
	}
	var found *audit.Entry
	err = eachRow(rows, func() error {
		e, err := scanAudit(rows)
		found = &e
		return err
	})
	if err == nil && found == nil {
		err = sql.ErrNoRows
	}
	if err != nil {
		return nil, fmt.Errorf("audit entry %s: %w", id, db.classify(err))
	}
	return found, nil
}

// RecordAudit records what was refused: entries that belong to no change.
func (db *DB) RecordAudit(ctx context.Context, entries []audit.Entry) error {
	return db.Update(ctx, func(tx *Tx) error {
		for _, e := range entries {
			if err := tx.Audit(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// OnAudit calls listener for every audit entry that this DB has committed, before
// the writer's [DB.Update] returns. Several calls may come at once, and not in the
// order of commits. The listener must not call Update. remove ends that; a call that
// is under way may still finish after it returns.
func (db *DB) OnAudit(listener func(audit.Entry)) (remove func()) {
	return db.audits.add(listener)
}
