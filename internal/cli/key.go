package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// keyView is what is shown of a provider key; Display is masked by the server.
type keyView struct {
	ID       string `json:"id"`
	Provider string `json:"provider"`
	Display  string `json:"display"`
	Label    string `json:"label"`
	Weight   int    `json:"weight"`
	Priority int    `json:"priority"`
	IsActive bool   `json:"is_active"`
	stamps
}

func (m *Manager) showKey(data []byte) error {
	return show(m.Out, data, func(k *keyView) error {
		return m.Out.details("id", k.ID, "provider", k.Provider, "key", k.Display, "label", k.Label,
			"weight", strconv.Itoa(k.Weight), "priority", strconv.Itoa(k.Priority), "active", yesNo(k.IsActive),
			"created", timeText(k.CreatedAt, ""), "updated", timeText(k.UpdatedAt, ""))
	})
}

func (m *Manager) keysPath(ctx context.Context, project string) (string, error) {
	id, err := m.project(ctx, project)
	if err != nil {
		return "", err
	}
	return "/manage/projects/" + id + "/keys", nil
}

// keyPath finds a key by its id, or by its provider when the project has one
// key of that.
func (m *Manager) keyPath(ctx context.Context, project, ref string) (string, error) {
	path, err := m.keysPath(ctx, project)
	if err != nil {
		return "", err
	}
	if id, ok := asID(ref); ok {
		return path + "/" + id, nil
	}
	data, _, err := m.Client.Do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return "", err
	}
	var keys []keyView
	if err := json.Unmarshal(data, &keys); err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	var found []string
	for _, k := range keys {
		if k.Provider == ref {
			found = append(found, k.ID)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("the project has %d keys for that provider: give a key's id from caddy llm-proxy key list", len(found))
	}
	return path + "/" + url.PathEscape(found[0]), nil
}

// ListKeys lists the keys of a project.
func (m *Manager) ListKeys(ctx context.Context, project string) error {
	path, err := m.keysPath(ctx, project)
	if err != nil {
		return err
	}
	data, _, err := m.Client.Do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	if m.Out.JSON {
		return m.Out.document(data)
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(data, &rows); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	titles := []string{"ID", "PROVIDER", "KEY", "LABEL", "WEIGHT", "PRIORITY", "ACTIVE"}
	return showList(m.Out, rows, titles, func(k *keyView) []string {
		return []string{k.ID, k.Provider, k.Display, k.Label, strconv.Itoa(k.Weight), strconv.Itoa(k.Priority), yesNo(k.IsActive)}
	})
}

// AddKey gives a project a key.
func (m *Manager) AddKey(ctx context.Context, project string, f Fields) error {
	if f["provider"] == nil {
		return Usagef("--provider is required: the provider that the key is for, such as openai")
	}
	if f["api_key"] == nil {
		return Usagef("--api-key is required: - for standard input, @FILE, or --api-key-env NAME")
	}
	path, err := m.keysPath(ctx, project)
	if err != nil {
		return err
	}
	data, _, err := m.Client.Do(ctx, http.MethodPost, path, nil, f)
	if err != nil {
		return err
	}
	return m.showKey(data)
}

// UpdateKey changes the given members of a key.
func (m *Manager) UpdateKey(ctx context.Context, project, ref string, f Fields) error {
	if len(f) == 0 {
		_, err := m.change(ctx, "", f)
		return err
	}
	path, err := m.keyPath(ctx, project, ref)
	if err != nil {
		return err
	}
	data, err := m.change(ctx, path, f)
	if err != nil {
		return err
	}
	return m.showKey(data)
}

// RemoveKey takes a key from a project.
func (m *Manager) RemoveKey(ctx context.Context, project, ref string) error {
	path, err := m.keyPath(ctx, project, ref)
	if err != nil {
		return err
	}
	if _, _, err := m.Client.Do(ctx, http.MethodDelete, path, nil, nil); err != nil {
		return err
	}
	return m.done("the key is removed")
}
