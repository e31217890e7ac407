package storage

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
)

// maxUserAgent is how much of a client's User-Agent is kept, in bytes.
const maxUserAgent = 256

// AuditFilter selects audit entries. The zero filter selects all.
type AuditFilter struct {
	TargetID uuid.UUID // zero: any
	Action   string    // empty: any
	Limit    int       // zero: no limit
}

const auditColumns = `a.id, a.created_at, a.actor, a.action, a.outcome, a.target_type, a.target_id, a.project_id,
	a.client_ip, a.request_id, a.method, a.path, a.user_agent, a.reason, a.changes, a.occurrences`

// AuditEntries lists what was done through the management API, newest first.
func (db *DB) AuditEntries(ctx context.Context, f AuditFilter) ([]audit.Entry, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	list, err := listing[audit.Entry]{
		query:  `SELECT ` + auditColumns + ` FROM audit_events a`,
		alias:  "a",
		where:  f.where,
		limit:  f.Limit,
		scan:   scanAudit,
		cursor: func(e *audit.Entry) Cursor { return Cursor{e.Time, e.ID} },
	}.run(ctx, c.read, db.logger)
	if err != nil {
		return nil, fmt.Errorf("listing audit entries: %w", db.classify(err))
	}
	return list, nil
}

func (f *AuditFilter) where() *where {
	w := &where{}
	if !f.TargetID.IsNil() {
		w.add("a.target_id = ?", f.TargetID)
	}
	if f.Action != "" {
		w.equals("a.action", f.Action)
	}
	return w
}

func scanAudit(rows *sql.Rows) (audit.Entry, error) {
	var e audit.Entry
	var target, projectID uuid.NullUUID
	var changes string
	err := rows.Scan(&e.ID, micros{&e.Time}, &e.Actor, &e.Action, &e.Outcome, &e.TargetType, &target, &projectID,
		&e.ClientIP, &e.RequestID, &e.Method, &e.Path, &e.UserAgent, &e.Reason, &changes, &e.Occurrences)
	if err != nil {
		return e, err
	}
	e.TargetID, e.ProjectID = target.UUID, projectID.UUID
	if changes == "{}" {
		return e, nil
	}
	if err := json.Unmarshal([]byte(changes), &e.Changes); err != nil {
		return e, &damagedRowError{"audit_events", e.ID.String(), fmt.Errorf("changes: %w", err)}
	}
	return e, nil
}

// Audit records what the transaction does, so that neither exists without the
// other. It makes the entry's id, and its time unless it has one: that of the
// transaction. Texts that came from a client are made storable rather than refused.
func (tx *Tx) Audit(ctx context.Context, e audit.Entry) (err error) {
	if e.Time.IsZero() {
		e.Time = tx.now
	}
	cleanEntry(&e)
	if e.ID, err = newID(e.Time); err != nil {
		return err
	}
	changes := []byte("{}")
	if len(e.Changes) > 0 {
		if changes, err = json.Marshal(e.Changes); err != nil {
			return fmt.Errorf("encoding an audit entry's changes: %w", err)
		}
	}
	_, err = tx.tx.ExecContext(ctx,
		`INSERT INTO audit_events (id, created_at, actor, action, outcome, target_type, target_id, project_id,
			client_ip, request_id, method, path, user_agent, reason, changes, occurrences)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		e.ID, e.Time.UnixMicro(), e.Actor, e.Action, e.Outcome, e.TargetType, idOrNull(e.TargetID), idOrNull(e.ProjectID),
		e.ClientIP, e.RequestID, e.Method, e.Path, e.UserAgent, e.Reason, string(changes), e.Occurrences)
	if err != nil {
		return fmt.Errorf("recording an audit entry: %w", tx.fail(err))
	}
	tx.audited = append(tx.audited, e)
	return nil
}

// cleanEntry makes an entry storable.
func cleanEntry(e *audit.Entry) {
	e.Time = stored(e.Time)
	e.Occurrences = max(e.Occurrences, 1)
	for _, text := range []*string{&e.Actor, &e.Action, &e.ClientIP, &e.RequestID, &e.Method, &e.Path, &e.UserAgent, &e.Reason} {
		*text = cleanText(*text)
	}
	e.UserAgent = clip(e.UserAgent, maxUserAgent)
}

// clip cuts s to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
