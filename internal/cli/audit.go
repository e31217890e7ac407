package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxAuditPage is the largest page of the audit that the API answers.
const maxAuditPage = 100

// AuditFilter narrows the audit. Empty members do not.
type AuditFilter struct {
	Action, Actor, Outcome, ClientIP, RequestID, Method, Path, Search string

	Project string // id or name
	Token   string // a token, or its id
	Target  string // id
	Since   string // a time, or how long ago
	Until   string // likewise
	Limit   int    // 0: all
}

// auditEvent is what is shown of a record.
type auditEvent struct {
	ID          string     `json:"id"`
	Timestamp   *time.Time `json:"timestamp"`
	Action      string     `json:"action"`
	Actor       string     `json:"actor"`
	Outcome     string     `json:"outcome"`
	Reason      string     `json:"reason"`
	TargetType  string     `json:"target_type"`
	TargetID    string     `json:"target_id"`
	ProjectID   string     `json:"project_id"`
	ClientIP    string     `json:"client_ip"`
	RequestID   string     `json:"request_id"`
	Method      string     `json:"method"`
	Path        string     `json:"path"`
	UserAgent   string     `json:"user_agent"`
	Occurrences int64      `json:"occurrences"`

	Changes map[string]struct {
		Before any `json:"before"`
		After  any `json:"after"`
	} `json:"changes"`
}

// auditValues are the filter's query parameters.
func (m *Manager) auditValues(ctx context.Context, f AuditFilter, now time.Time) (url.Values, error) {
	if f.Limit < 0 {
		return nil, Usagef("--limit: expected a positive number")
	}
	v := url.Values{}
	for name, text := range map[string]string{
		"action": f.Action, "actor": f.Actor, "outcome": f.Outcome, "client_ip": f.ClientIP,
		"request_id": f.RequestID, "method": f.Method, "path": f.Path, "search": f.Search,
	} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for flag, text := range map[string]string{"--since": f.Since, "--until": f.Until} {
		if text == "" {
			continue
		}
		at, err := moment(flag, text, now)
		if err != nil {
			return nil, err
		}
		v.Set(map[string]string{"--since": "start_time", "--until": "end_time"}[flag], at.UTC().Format(time.RFC3339))
	}
	if f.Project != "" {
		id, err := m.project(ctx, f.Project)
		if err != nil {
			return nil, err
		}
		v.Set("project_id", id)
	}
	if f.Token != "" {
		id, err := tokenID(f.Token)
		if err != nil {
			return nil, err
		}
		v.Set("token_id", id)
	}
	if f.Target != "" {
		id, ok := asID(f.Target)
		if !ok {
			return nil, Usagef("--target: expected an id")
		}
		v.Set("target_id", id)
	}
	return v, nil
}

// moment reads a time, or how long ago it was.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	minutes, err := ParseMinutes(flag, text)
	if err != nil {
		return time.Time{}, Usagef("%s: expected a time with zone such as 2030-01-31T18:00:00Z, or how long ago, such as 12h or 7d", flag)
	}
	return now.Add(-time.Duration(minutes) * time.Minute), nil
}

// ListAudit lists audit records, newest first.
func (m *Manager) ListAudit(ctx context.Context, f AuditFilter) error {
	query, err := m.auditValues(ctx, f, time.Now())
	if err != nil {
		return err
	}
	rows, err := m.auditRows(ctx, query, f.Limit)
	if err != nil {
		return err
	}
	titles := []string{"TIME", "ACTION", "OUTCOME", "REASON", "TARGET", "CLIENT", "COUNT", "ID"}
	return showList(m.Out, rows, titles, func(e *auditEvent) []string {
		return []string{timeText(e.Timestamp, ""), e.Action, e.Outcome, e.Reason, e.TargetID, e.ClientIP, strconv.FormatInt(e.Occurrences, 10), e.ID}
	})
}

// auditRows follows the pages to their end, or to the limit.
func (m *Manager) auditRows(ctx context.Context, query url.Values, limit int) ([]json.RawMessage, error) {
	rows := []json.RawMessage{} // an empty list is [], not null
	size := min(m.Client.pageSize, maxAuditPage)
	if limit > 0 {
		size = min(size, limit)
	}
	query.Set("page_size", strconv.Itoa(size))
	for page := 1; ; page++ {
		query.Set("page", strconv.Itoa(page))
		data, _, err := m.Client.Do(ctx, http.MethodGet, "/manage/audit", query, nil)
		if err != nil {
			return nil, err
		}
		var answer struct {
			Events     []json.RawMessage `json:"events"`
			Pagination struct {
				HasNext bool `json:"has_next"`
			} `json:"pagination"`
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return nil, fmt.Errorf("reading the audit: expected events and pagination")
		}
		if page == 1 && len(answer.Events) > 0 && !query.Has("end_time") {
			// Pages are counted from the newest record, which must stay the newest.
			var newest struct{ Timestamp time.Time }
			if err := json.Unmarshal(answer.Events[0], &newest); err != nil {
				return nil, fmt.Errorf("reading the audit: %w", err)
			}
			query.Set("end_time", newest.Timestamp.UTC().Format(time.RFC3339Nano))
		}
		rows = append(rows, answer.Events...)
		if limit > 0 && len(rows) >= limit {
			return rows[:limit], nil
		}
		if !answer.Pagination.HasNext {
			return rows, nil
		}
	}
}

// GetAudit shows one audit record.
func (m *Manager) GetAudit(ctx context.Context, ref string) error {
	id, ok := asID(ref)
	if !ok {
		return Usagef("expected the id of an audit record: see caddy llm-proxy audit")
	}
	data, _, err := m.Client.Do(ctx, http.MethodGet, "/manage/audit/"+id, nil, nil)
	if err != nil {
		return err
	}
	return show(m.Out, data, func(e *auditEvent) error {
		var changes string
		if len(e.Changes) > 0 {
			text, err := json.Marshal(e.Changes)
			if err != nil {
				return fmt.Errorf("reading the answer: %w", err)
			}
			changes = string(text)
		}
		return m.Out.details(
			"id", e.ID, "time", timeText(e.Timestamp, ""), "action", e.Action, "actor", e.Actor, "outcome", e.Outcome, "reason", e.Reason,
			"target", e.TargetType+" "+e.TargetID, "project", e.ProjectID, "client", e.ClientIP, "user agent", e.UserAgent,
			"request id", e.RequestID, "call", e.Method+" "+e.Path, "count", strconv.FormatInt(e.Occurrences, 10), "changes", changes)
	})
}
