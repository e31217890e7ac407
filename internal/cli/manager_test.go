package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func TestProjects(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	created := i.do(func(m *Manager) error {
		f := Fields{"api_key": testProviderKey, "allowed_models": []string{"gpt-4o*"}, "allowed_ips": []string{}}
		if err := f.SetMetadata([]string{"team=search"}); err != nil {
			return err
		}
		return m.CreateProject(ctx, "Search", f)
	})
	expectText(t, created, "Search", "…1234", "gpt-4o*", `{"team":"search"}`, "active")
	id := firstID(t, created)

	for _, ref := range []string{id, strings.ToUpper(id), "Search"} {
		expectText(t, i.do(func(m *Manager) error { return m.GetProject(ctx, ref) }), id)
	}
	i.do(func(m *Manager) error { return m.CreateProject(ctx, "Search two", Fields{}) })
	expectText(t, i.do(func(m *Manager) error { return m.GetProject(ctx, "Search") }), id)
	expectError(t, i.m.GetProject(ctx, "Sear"), false, `no project is called "Sear"`, "project list")
	expectError(t, i.m.GetProject(ctx, ""), true, "expected a project")
	expectError(t, i.m.GetProject(ctx, "0190aaaa-0000-7000-8000-000000000000"), false, "project not found", "not_found", "request id")
	expectError(t, i.m.CreateProject(ctx, "Search", Fields{}), false, "another project has it", "project_exists")
	expectError(t, i.m.CreateProject(ctx, "", Fields{}), true, "name")

	expectText(t, i.do(func(m *Manager) error {
		return m.UpdateProject(ctx, "Search", Fields{"name": "Find", "is_active": false, "revoke_tokens": true})
	}), "Find", "deactivated")
	expectError(t, i.m.UpdateProject(ctx, "Find", Fields{}), true, "nothing to change")
	list := i.do(func(m *Manager) error { return m.ListProjects(ctx, Filter{Active: new(bool)}) })
	expectText(t, list, "ID", "Find")
	if strings.Contains(list, "Search two") {
		t.Errorf("the filter was not used: %s", list)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(i.json(func(m *Manager) error { return m.ListProjects(ctx, Filter{Query: "sea"}) })), &rows); err != nil || len(rows) != 1 {
		t.Fatalf("%d rows, error %v", len(rows), err)
	}
	if got := i.json(func(m *Manager) error { return m.ListProjects(ctx, Filter{Query: "nobody"}) }); got != "[]\n" {
		t.Errorf("an empty list is %q", got)
	}
	expectError(t, i.m.ListProjects(ctx, Filter{Limit: -1}), true, "--limit")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	i.do(func(m *Manager) error { return m.CreateProject(ctx, "p", Fields{}) })
	expectError(t, i.m.AddKey(ctx, "p", Fields{"api_key": testProviderKey}), true, "--provider")
	expectError(t, i.m.AddKey(ctx, "p", Fields{"provider": "openai"}), true, "--api-key")
	id := firstID(t, i.do(func(m *Manager) error {
		return m.AddKey(ctx, "p", Fields{"provider": "openai", "api_key": testProviderKey, "label": "team"})
	}))
	expectError(t, i.m.AddKey(ctx, "p", Fields{"provider": "openai", "api_key": testProviderKey}), false, "key_exists")
	expectText(t, i.do(func(m *Manager) error { return m.ListKeys(ctx, "p") }), id, "openai", "…1234", "team")
	expectText(t, i.json(func(m *Manager) error { return m.ListKeys(ctx, "p") }), `[{"id":"`+id)
	expectText(t, i.do(func(m *Manager) error { return m.UpdateKey(ctx, "p", "openai", Fields{"weight": 5}) }), "5")
	expectError(t, i.m.UpdateKey(ctx, "p", "openai", Fields{}), true, "nothing to change")
	expectError(t, i.m.UpdateKey(ctx, "p", "anthropic", Fields{"weight": 5}), false, "0 keys")
	expectError(t, i.m.UpdateKey(ctx, "p", id, Fields{"weight": 0}), false, "weight", "invalid_request")
	if got := i.json(func(m *Manager) error { return m.RemoveKey(ctx, "p", id) }); got != "{}\n" {
		t.Errorf("removing answers %q", got)
	}
	if got := i.do(func(m *Manager) error { return m.ListKeys(ctx, "p") }); strings.Contains(got, id) {
		t.Errorf("still there: %s", got)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	i.do(func(m *Manager) error { return m.CreateProject(ctx, "p", Fields{}) })
	text := strings.TrimSpace(i.do(func(m *Manager) error {
		return m.CreateToken(ctx, "p", Expiry{Duration: "12h"}, Fields{"name": "ci"})
	}))
	parsed, err := token.Parse(text)
	if err != nil {
		t.Fatalf("standard output is not the token alone: %v", err)
	}
	id := parsed.ID.String()
	if notices := i.err.take(); !strings.Contains(notices, "only time") || !strings.Contains(notices, id) || strings.Contains(notices, text) {
		t.Errorf("notices: %s", notices)
	}
	shown := i.do(func(m *Manager) error { return m.GetToken(ctx, text) })
	expectText(t, shown, id, "ci", "active")
	if strings.Contains(shown, text) {
		t.Error("the token was shown again")
	}
	var row struct {
		ExpiresAt *time.Time `json:"expires_at"`
	}
	for _, c := range []struct {
		expiry Expiry
		in     time.Duration
	}{
		{Expiry{Duration: "30d"}, 30 * 24 * time.Hour},
		{Expiry{Duration: "90"}, 90 * time.Minute},
		{Expiry{At: time.Now().Add(time.Hour).Format(time.RFC3339)}, time.Hour},
		{Expiry{Never: true}, 0},
	} {
		row.ExpiresAt = nil
		if err := json.Unmarshal([]byte(i.json(func(m *Manager) error { return m.UpdateToken(ctx, id, c.expiry, Fields{}) })), &row); err != nil {
			t.Fatal(err)
		}
		switch {
		case c.in == 0 && row.ExpiresAt != nil, c.in > 0 && row.ExpiresAt == nil:
			t.Errorf("%+v gives %v", c.expiry, row.ExpiresAt)
		case c.in > 0 && time.Until(*row.ExpiresAt).Round(time.Minute) != c.in:
			t.Errorf("%+v gives %v", c.expiry, row.ExpiresAt)
		}
	}
	expectError(t, i.m.UpdateToken(ctx, id, Expiry{Never: true, Duration: "1h"}, Fields{}), true, "one of")
	expectError(t, i.m.UpdateToken(ctx, id, Expiry{At: "tomorrow"}, Fields{}), true, "--expires-at")
	expectError(t, i.m.UpdateToken(ctx, id, Expiry{}, Fields{}), true, "nothing to change")
	expectError(t, i.m.CreateToken(ctx, "", Expiry{}, Fields{}), true, "--project")
	expectError(t, i.m.CreateToken(ctx, "p", Expiry{Duration: "0"}, Fields{}), true, "at least one minute")

	rotated := strings.TrimSpace(i.do(func(m *Manager) error { return m.RotateToken(ctx, id, "10m") }))
	if second, err := token.Parse(rotated); err != nil || second.ID == parsed.ID {
		t.Errorf("rotating gives %v, %v", second, err)
	}
	i.do(func(m *Manager) error { return m.RevokeToken(ctx, id, "laptop lost") })
	i.do(func(m *Manager) error { return m.RevokeToken(ctx, id, "") })
	expectText(t, i.do(func(m *Manager) error { return m.GetToken(ctx, id) }), "revoked", "laptop lost")
	expectError(t, i.m.RotateToken(ctx, id, ""), false, "token_inactive")
	for _, ref := range []string{"", "ci", "sk-wt-CANARY"} {
		expectError(t, i.m.GetToken(ctx, ref), true, "token")
	}
}

func TestListFollowsPages(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	i.do(func(m *Manager) error { return m.CreateProject(ctx, "p", Fields{}) })
	i.do(func(m *Manager) error { return m.CreateProject(ctx, "other", Fields{}) })
	for n := range 5 {
		i.do(func(m *Manager) error { return m.CreateToken(ctx, "p", Expiry{}, Fields{"name": fmt.Sprint("t", n)}) })
	}
	i.do(func(m *Manager) error { return m.CreateToken(ctx, "other", Expiry{}, Fields{}) })
	i.m.Client.pageSize = 2
	for limit, want := range map[int]int{0: 5, 1: 1, 3: 3, 4: 4, 99: 5} {
		var rows []map[string]any
		got := i.json(func(m *Manager) error { return m.ListTokens(ctx, Filter{Project: "p", Limit: limit}) })
		if err := json.Unmarshal([]byte(got), &rows); err != nil || len(rows) != want {
			t.Errorf("limit %d: %d rows, error %v, want %d", limit, len(rows), err, want)
		}
	}
	if got := strings.Count(i.do(func(m *Manager) error { return m.ListTokens(ctx, Filter{}) }), "\n"); got != 7 {
		t.Errorf("the table has %d lines, want titles and 6 rows", got)
	}
}
