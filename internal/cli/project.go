package cli

import (
	"context"
	"net/http"
	"time"
)

// projectView is what is shown of a project.
type projectView struct {
	ID            string     `json:"id"`
	Name          string     `json:"name"`
	APIKey        string     `json:"api_key"` // masked by the server
	IsActive      bool       `json:"is_active"`
	DeactivatedAt *time.Time `json:"deactivated_at"`
	UseSharedKeys bool       `json:"use_shared_keys"`
	policy
	stamps
}

func (m *Manager) showProject(data []byte) error {
	return show(m.Out, data, func(p *projectView) error {
		pairs := []string{
			"id", p.ID, "name", p.Name, "active", yesNo(p.IsActive), "deactivated", timeText(p.DeactivatedAt, ""),
			"first key", p.APIKey, "use shared keys", yesNo(p.UseSharedKeys),
		}
		pairs = append(pairs, p.pairs()...)
		return m.Out.details(append(pairs, "created", timeText(p.CreatedAt, ""), "updated", timeText(p.UpdatedAt, ""))...)
	})
}

// ListProjects lists projects, newest first.
func (m *Manager) ListProjects(ctx context.Context, filter Filter) error {
	query, err := filter.values()
	if err != nil {
		return err
	}
	rows, err := m.Client.list(ctx, "/manage/projects", query, filter.Limit)
	if err != nil {
		return err
	}
	return showList(m.Out, rows, []string{"ID", "NAME", "ACTIVE", "KEY", "CREATED"}, func(p *projectView) []string {
		return []string{p.ID, p.Name, yesNo(p.IsActive), p.APIKey, timeText(p.CreatedAt, "")}
	})
}

// GetProject shows one project.
func (m *Manager) GetProject(ctx context.Context, ref string) error {
	id, err := m.project(ctx, ref)
	if err != nil {
		return err
	}
	data, _, err := m.Client.Do(ctx, http.MethodGet, "/manage/projects/"+id, nil, nil)
	if err != nil {
		return err
	}
	return m.showProject(data)
}

// CreateProject makes a project.
func (m *Manager) CreateProject(ctx context.Context, name string, f Fields) error {
	if name == "" {
		return Usagef("expected a name for the project")
	}
	f["name"] = name
	data, _, err := m.Client.Do(ctx, http.MethodPost, "/manage/projects", nil, f)
	if err != nil {
		return err
	}
	return m.showProject(data)
}

// UpdateProject changes the given members of a project.
func (m *Manager) UpdateProject(ctx context.Context, ref string, f Fields) error {
	if len(f) == 0 {
		_, err := m.change(ctx, "", f)
		return err
	}
	id, err := m.project(ctx, ref)
	if err != nil {
		return err
	}
	data, err := m.change(ctx, "/manage/projects/"+id, f)
	if err != nil {
		return err
	}
	return m.showProject(data)
}
