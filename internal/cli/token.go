package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// tokenView is what is shown of a token. Token is only in the answer that made it.
type tokenView struct {
	Token        string     `json:"token"`
	ID           string     `json:"id"`
	ProjectID    string     `json:"project_id"`
	Name         string     `json:"name"`
	IsActive     bool       `json:"is_active"`
	Expired      bool       `json:"expired"`
	ExpiresAt    *time.Time `json:"expires_at"`
	RevokedAt    *time.Time `json:"revoked_at"`
	RevokeReason string     `json:"revoke_reason"`
	policy
	stamps
}

func (t *tokenView) state() string {
	switch {
	case !t.IsActive:
		return "revoked"
	case t.Expired:
		return "expired"
	}
	return "active"
}

func (m *Manager) showToken(data []byte) error {
	return show(m.Out, data, func(t *tokenView) error {
		pairs := []string{
			"id", t.ID, "name", t.Name, "project", t.ProjectID, "state", t.state(), "expires", timeText(t.ExpiresAt, "never"),
			"revoked", timeText(t.RevokedAt, ""), "reason", t.RevokeReason,
		}
		pairs = append(pairs, t.pairs()...)
		return m.Out.details(append(pairs, "created", timeText(t.CreatedAt, ""), "updated", timeText(t.UpdatedAt, ""))...)
	})
}

// showNewToken writes a new token alone to standard output, so that a script
// can keep it, and the rest beside it.
func (m *Manager) showNewToken(data []byte) error {
	m.Out.Notice("this is the only time that the token is shown: keep it now")
	return show(m.Out, data, func(t *tokenView) error {
		m.Out.Notice("id %s, project %s, expires %s", t.ID, t.ProjectID, timeText(t.ExpiresAt, "never"))
		_, err := fmt.Fprintln(m.Out.Out, OneLine(t.Token))
		return err
	})
}

// tokenID takes an id, or finds it in a token's text.
func tokenID(ref string) (string, error) {
	if id, ok := asID(ref); ok {
		return id, nil
	}
	if strings.HasPrefix(ref, token.Prefix) {
		parsed, err := token.Parse(ref)
		if err != nil {
			return "", Usagef("the token is malformed: see caddy llm-proxy token inspect")
		}
		return parsed.ID.String(), nil
	}
	return "", Usagef("expected a token's id (a UUID): see caddy llm-proxy token list")
}

// ListTokens lists tokens, newest first.
func (m *Manager) ListTokens(ctx context.Context, filter Filter) error {
	query, err := filter.values()
	if err != nil {
		return err
	}
	if filter.Project != "" {
		id, err := m.project(ctx, filter.Project)
		if err != nil {
			return err
		}
		query.Set("project_id", id)
	}
	rows, err := m.Client.list(ctx, "/manage/tokens", query, filter.Limit)
	if err != nil {
		return err
	}
	return showList(m.Out, rows, []string{"ID", "NAME", "PROJECT", "STATE", "EXPIRES", "CREATED"}, func(t *tokenView) []string {
		return []string{t.ID, t.Name, t.ProjectID, t.state(), timeText(t.ExpiresAt, "never"), timeText(t.CreatedAt, "")}
	})
}

// GetToken shows one token, without its text.
func (m *Manager) GetToken(ctx context.Context, ref string) error {
	id, err := tokenID(ref)
	if err != nil {
		return err
	}
	data, _, err := m.Client.Do(ctx, http.MethodGet, "/manage/tokens/"+id, nil, nil)
	if err != nil {
		return err
	}
	return m.showToken(data)
}

// CreateToken makes a token for a project.
func (m *Manager) CreateToken(ctx context.Context, project string, expiry Expiry, f Fields) error {
	if project == "" {
		return Usagef("--project is required: the id or name of the token's project")
	}
	if err := expiry.create(f); err != nil {
		return err
	}
	id, err := m.project(ctx, project)
	if err != nil {
		return err
	}
	f["project_id"] = id
	data, _, err := m.Client.Do(ctx, http.MethodPost, "/manage/tokens", nil, f)
	if err != nil {
		return err
	}
	return m.showNewToken(data)
}

// UpdateToken changes the given members of a token.
func (m *Manager) UpdateToken(ctx context.Context, ref string, expiry Expiry, f Fields) error {
	id, err := tokenID(ref)
	if err != nil {
		return err
	}
	if err := expiry.update(f, time.Now()); err != nil {
		return err
	}
	data, err := m.change(ctx, "/manage/tokens/"+id, f)
	if err != nil {
		return err
	}
	return m.showToken(data)
}

// RevokeToken ends a token. Doing so again is no error.
func (m *Manager) RevokeToken(ctx context.Context, ref, reason string) error {
	id, err := tokenID(ref)
	if err != nil {
		return err
	}
	query := url.Values{}
	if reason != "" {
		query.Set("reason", reason)
	}
	if _, _, err := m.Client.Do(ctx, http.MethodDelete, "/manage/tokens/"+id, query, nil); err != nil {
		return err
	}
	return m.done("the token is revoked")
}

// RotateToken makes a token with the same policy; the old one works for overlap.
func (m *Manager) RotateToken(ctx context.Context, ref, overlap string) error {
	id, err := tokenID(ref)
	if err != nil {
		return err
	}
	f := Fields{}
	if overlap != "" {
		minutes, err := ParseMinutes("--overlap", overlap)
		if err != nil {
			return err
		}
		f["overlap_minutes"] = minutes
	}
	data, _, err := m.Client.Do(ctx, http.MethodPost, "/manage/tokens/"+id+"/rotate", nil, f)
	if err != nil {
		return err
	}
	return m.showNewToken(data)
}
