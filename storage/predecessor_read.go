package storage

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/predecessor"
)

// Has reports whether there is a table of this name.
func (p *Predecessor) Has(table string) bool { return len(p.columns[table]) > 0 }

// Projects calls each for every project.
func (p *Predecessor) Projects(ctx context.Context, each func(*predecessor.ProjectRow) error) error {
	key := "api_key"
	if !p.columns["projects"][key] {
		key = "openai_api_key"
	}
	var r predecessor.ProjectRow
	return p.scan(ctx, "projects", "id", []predecessorColumn{
		{"id", &r.ID}, {"name", &r.Name}, {key, &r.APIKey}, {"is_active", &r.IsActive},
		{"deactivated_at", &r.DeactivatedAt}, {"created_at", &r.CreatedAt}, {"updated_at", &r.UpdatedAt},
	}, func() error { row := r; return each(&row) })
}

// Tokens calls each for every token.
func (p *Predecessor) Tokens(ctx context.Context, each func(*predecessor.TokenRow) error) error {
	var r predecessor.TokenRow
	return p.scan(ctx, "tokens", "token", []predecessorColumn{
		{"id", &r.ID}, {"token", &r.Token}, {"project_id", &r.ProjectID}, {"expires_at", &r.ExpiresAt}, {"is_active", &r.IsActive},
		{"deactivated_at", &r.DeactivatedAt}, {"request_count", &r.RequestCount}, {"max_requests", &r.MaxRequests},
		{"created_at", &r.CreatedAt}, {"metadata", &r.Metadata},
	}, func() error { row := r; return each(&row) })
}

// AuditEvents calls each for every audit event, of which the oldest databases
// have none.
func (p *Predecessor) AuditEvents(ctx context.Context, each func(*predecessor.AuditRow) error) error {
	if !p.Has("audit_events") {
		return nil
	}
	var r predecessor.AuditRow
	return p.scan(ctx, "audit_events", "id", []predecessorColumn{
		{"id", &r.ID}, {"timestamp", &r.Timestamp}, {"action", &r.Action}, {"actor", &r.Actor}, {"project_id", &r.ProjectID},
		{"request_id", &r.RequestID}, {"client_ip", &r.ClientIP}, {"method", &r.Method}, {"path", &r.Path},
		{"user_agent", &r.UserAgent}, {"outcome", &r.Outcome}, {"reason", &r.Reason},
	}, func() error { row := r; return each(&row) })
}

// predecessorColumn is a column and where its value goes.
type predecessorColumn struct {
	name string
	to   **string
}

// maxPredecessorValue is more than any value that can be imported has, in
// characters: damaged rows are not read in whole.
const maxPredecessorValue = 64 << 10

// scan reads a table, every value as text whatever its type: drivers disagree
// about those of times and flags, and SQLite about every value of its own.
func (p *Predecessor) scan(ctx context.Context, table, order string, columns []predecessorColumn, each func() error) error {
	var list []string
	values := make([]sql.NullString, len(columns))
	dest := make([]any, len(columns))
	for i, c := range columns {
		expression := "NULL"
		if p.columns[table][c.name] {
			expression = fmt.Sprintf(`substr(CAST("%s" AS TEXT), 1, %d)`, c.name, maxPredecessorValue)
		}
		list, dest[i] = append(list, expression), &values[i]
	}
	rows, err := p.tx.QueryContext(ctx, `SELECT `+strings.Join(list, ", ")+` FROM `+table+` ORDER BY `+order)
	if err == nil {
		err = eachRow(rows, func() error {
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			for i, c := range columns {
				*c.to = nil
				if values[i].Valid {
					text := values[i].String
					*c.to = &text
				}
			}
			return each()
		})
	}
	if err != nil {
		return fmt.Errorf("reading the predecessor's %s: %w", table, err)
	}
	return nil
}
