package gateway_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// TestDenied: the host is told of what policy refused, and of nothing else.
func TestDenied(t *testing.T) {
	past := time.Now().Add(-time.Minute)
	for _, test := range []struct {
		name    string
		setup   setup
		line    string // of the request's header
		status  int
		want    string // the code that the host is told; "": none
		project bool   // whether the project is known
	}{
		{name: "allowed", status: http.StatusOK},
		{name: "no token", line: "X-Api-Key: ", status: http.StatusUnauthorized},
		{name: "a wrong token", line: "X-Api-Key: sk-wt-wrong", status: http.StatusUnauthorized},
		{"model", setup{token: func(t *token.Token) { t.Policy.AllowedModels = []string{"other"} }}, "", http.StatusForbidden, "model_not_allowed", true},
		{"provider", setup{token: func(t *token.Token) { t.Policy.AllowedProviders = []string{"other"} }}, "", http.StatusForbidden, "provider_not_allowed", true},
		{"project", setup{project: func(p *project.Snapshot) { p.Project.Active = false }}, "", http.StatusForbidden, "project_inactive", false},
		{"expired", setup{token: func(t *token.Token) { t.ExpiresAt = &past }}, "", http.StatusUnauthorized, "token_expired", false},
		{"revoked", setup{token: func(t *token.Token) { t.Active = false }}, "", http.StatusUnauthorized, "token_inactive", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var told []string
			s := test.setup
			s.gateway = func(cfg *gateway.Config) {
				cfg.ClientIP = func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.7") }
				cfg.Denied = func(tokenID, projectID uuid.UUID, code string, client netip.Addr) {
					told = append(told, fmt.Sprint(tokenID, projectID, code, client))
				}
			}
			r := newRig(t, s)
			var lines []string
			if test.line != "" {
				lines = append(lines, test.line)
			}
			rec := new(gateway.Record)
			w := &answerWriter{header: http.Header{}}
			r.serve(w, r.chat(`{"model":"m"}`, lines...), rec)
			if rec.Status != test.status {
				t.Errorf("status %d, want %d", rec.Status, test.status)
			}
			var want []string
			if test.want != "" {
				id := uuid.Nil
				if test.project {
					id = r.projectID
				}
				want = append(want, fmt.Sprint(r.tokenID, id, test.want, "192.0.2.7"))
			}
			if !slices.Equal(told, want) {
				t.Errorf("told %v, want %v", told, want)
			}
		})
	}
}

// answerWriter throws an answer away.
type answerWriter struct{ header http.Header }

func (w *answerWriter) Header() http.Header         { return w.header }
func (w *answerWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *answerWriter) WriteHeader(int)             {}
