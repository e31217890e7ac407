package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	empty := i.json(func(m *Manager) error { return m.ListAudit(ctx, AuditFilter{}) })
	if empty != "[]\n" {
		t.Errorf("an empty audit is %q", empty)
	}
	i.do(func(m *Manager) error { return m.CreateProject(ctx, "Search", Fields{"api_key": testProviderKey}) })
	for n := range 5 {
		i.do(func(m *Manager) error {
			return m.CreateToken(ctx, "Search", Expiry{}, Fields{"name": fmt.Sprint("t", n)})
		})
	}
	text := strings.TrimSpace(i.do(func(m *Manager) error { return m.CreateToken(ctx, "Search", Expiry{}, Fields{}) }))
	i.do(func(m *Manager) error { return m.RevokeToken(ctx, text, "laptop 100% lost") })

	i.m.Client.pageSize = 2
	for _, test := range []struct {
		filter AuditFilter
		want   int
	}{
		{AuditFilter{}, 8}, {AuditFilter{Limit: 3}, 3}, {AuditFilter{Limit: 99}, 8}, {AuditFilter{Action: "token.create"}, 6},
		{AuditFilter{Project: "Search", Outcome: "success"}, 8}, {AuditFilter{Token: text}, 2}, {AuditFilter{Search: "100%"}, 1}, {AuditFilter{Search: "1%0"}, 0},
		{AuditFilter{Since: "1h"}, 8}, {AuditFilter{Until: "1h"}, 0}, {AuditFilter{Until: time.Now().Add(time.Hour).Format(time.RFC3339)}, 8},
		{AuditFilter{Method: "DELETE", Actor: "management_token", ClientIP: "192.0.2.7"}, 1}, {AuditFilter{RequestID: "none"}, 0}, {AuditFilter{Path: "/manage/tokens"}, 6},
	} {
		var rows []map[string]any
		got := i.json(func(m *Manager) error { return m.ListAudit(ctx, test.filter) })
		if err := json.Unmarshal([]byte(got), &rows); err != nil || len(rows) != test.want {
			t.Errorf("%+v: %d rows, want %d, error %v", test.filter, len(rows), test.want, err)
		}
	}
	list := i.do(func(m *Manager) error { return m.ListAudit(ctx, AuditFilter{Action: "project.create"}) })
	expectText(t, list, "TIME", "project.create", "success", "192.0.2.7")
	var rows []struct{ ID string }
	if err := json.Unmarshal([]byte(i.json(func(m *Manager) error { return m.ListAudit(ctx, AuditFilter{Action: "project.create"}) })), &rows); err != nil {
		t.Fatal(err)
	}
	expectText(t, i.do(func(m *Manager) error { return m.GetAudit(ctx, rows[0].ID) }), rows[0].ID, "POST /manage/projects", "[redacted]", "Search")
	expectText(t, i.json(func(m *Manager) error { return m.GetAudit(ctx, rows[0].ID) }), `"id":"`+rows[0].ID)

	expectError(t, i.m.GetAudit(ctx, "x"), true, "id of an audit record")
	expectError(t, i.m.GetAudit(ctx, "0190aaaa-0000-7000-8000-000000000000"), false, "audit record not found")
	expectError(t, i.m.ListAudit(ctx, AuditFilter{Limit: -1}), true, "--limit")
	expectError(t, i.m.ListAudit(ctx, AuditFilter{Since: "yesterday"}), true, "--since")
	expectError(t, i.m.ListAudit(ctx, AuditFilter{Until: "CANARY"}), true, "--until")
	expectError(t, i.m.ListAudit(ctx, AuditFilter{Target: "x"}), true, "--target")
	expectError(t, i.m.ListAudit(ctx, AuditFilter{Token: "x"}), true, "token")
	expectError(t, i.m.ListAudit(ctx, AuditFilter{Project: "Nobody"}), false, "no project")
	expectError(t, i.m.ListAudit(ctx, AuditFilter{Outcome: "maybe"}), false, "success, denied or failure", "invalid_request")
}
