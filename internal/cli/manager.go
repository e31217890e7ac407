package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"
)

// Manager carries out commands on the management API and shows the results.
type Manager struct {
	Client *Client
	Out    Output

	every time.Duration // between looks at what is followed; 0: followEvery
}

// Filter narrows a list.
type Filter struct {
	Query   string // part of a name
	Active  *bool
	Project string // id or name; tokens only
	Limit   int    // 0: all
}

func (f Filter) values() (url.Values, error) {
	if f.Limit < 0 {
		return nil, Usagef("--limit: expected a positive number")
	}
	v := url.Values{}
	if f.Query != "" {
		v.Set("q", f.Query)
	}
	if f.Active != nil {
		v.Set("active", strconv.FormatBool(*f.Active))
	}
	return v, nil
}

// policy is the part of projects and tokens that restricts requests.
type policy struct {
	AllowedModels    []string          `json:"allowed_models"`
	AllowedProviders []string          `json:"allowed_providers"`
	AllowedEndpoints []string          `json:"allowed_endpoints"`
	AllowedIPs       []string          `json:"allowed_ips"`
	Metadata         map[string]string `json:"metadata"`
	limits
}

func (p *policy) pairs() []string {
	var metadata string
	if len(p.Metadata) > 0 {
		text, _ := json.Marshal(p.Metadata) // a map of strings always encodes
		metadata = string(text)
	}
	pairs := []string{
		"allowed models", strings.Join(p.AllowedModels, ", "),
		"allowed providers", strings.Join(p.AllowedProviders, ", "),
		"allowed endpoints", strings.Join(p.AllowedEndpoints, ", "),
		"allowed ips", strings.Join(p.AllowedIPs, ", "),
		"metadata", metadata,
	}
	return append(pairs, p.limits.pairs()...)
}

// stamps are on every object.
type stamps struct {
	CreatedAt *time.Time `json:"created_at"`
	UpdatedAt *time.Time `json:"updated_at"`
}

// show writes an answer: as it is for --json, else with text.
func show[T any](out Output, data json.RawMessage, text func(*T) error) error {
	if out.JSON {
		return out.document(data)
	}
	v := new(T)
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return text(v)
}

// showList writes the rows of a list as one JSON array, or as a table.
func showList[T any](out Output, rows []json.RawMessage, titles []string, text func(*T) []string) error {
	if out.JSON {
		return out.value(rows)
	}
	lines := make([][]string, 0, len(rows))
	for _, row := range rows {
		v := new(T)
		if err := json.Unmarshal(row, v); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		lines = append(lines, text(v))
	}
	return out.table(titles, lines)
}

// done reports a call that answers nothing.
func (m *Manager) done(what string) error {
	if m.Out.JSON {
		return m.Out.document(nil)
	}
	m.Out.Notice("%s", what)
	return nil
}

// asID returns the canonical form of a text that is an id.
func asID(text string) (string, bool) {
	if len(text) != 36 {
		return "", false
	}
	id, err := uuid.FromString(text)
	return id.String(), err == nil
}

// project finds a project by id or by its whole name.
func (m *Manager) project(ctx context.Context, ref string) (string, error) {
	if ref == "" {
		return "", Usagef("expected a project, by id or name")
	}
	if id, ok := asID(ref); ok {
		return id, nil
	}
	rows, err := m.Client.list(ctx, "/manage/projects", url.Values{"q": {ref}}, 0)
	if err != nil {
		return "", err
	}
	for _, row := range rows {
		var p struct{ ID, Name string }
		if err := json.Unmarshal(row, &p); err != nil {
			return "", fmt.Errorf("reading the answer: %w", err)
		}
		if id, ok := asID(p.ID); ok && p.Name == ref {
			return id, nil
		}
	}
	return "", fmt.Errorf("no project is called %q: see caddy llm-proxy project list", OneLine(ref))
}

// change makes a call that must change something.
func (m *Manager) change(ctx context.Context, path string, f Fields) (json.RawMessage, error) {
	if len(f) == 0 {
		return nil, Usagef("nothing to change: give at least one of the flags that --help lists")
	}
	data, _, err := m.Client.Do(ctx, http.MethodPatch, path, nil, f)
	return data, err
}
