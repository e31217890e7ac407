package e2e

import (
	"database/sql"
	"errors"
	"hash/crc32"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3"
	"google.golang.org/genai"
	_ "modernc.org/sqlite"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

func crc(text string) uint32 { return crc32.ChecksumIEEE([]byte(text)) }

// TestErrorsInSDKs reads our refusals as users' programs do.
func TestErrorsInSDKs(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	for name, c := range map[string]struct {
		token  func(*testing.T, *account) string
		policy object
		status int
		code   string
	}{
		"invalid":  {token: forged, status: 401, code: "invalid_token"},
		"revoked":  {token: revoked, status: 401, code: "token_inactive"},
		"inactive": {token: deactivated, status: 403, code: "project_inactive"},
		"model":    {policy: object{"allowed_models": []string{"tiny"}}, status: 403, code: "model_not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := p.account(t, c.policy)
			text := a.token
			if c.token != nil {
				text = c.token(t, a)
			}
			ctx := bounded(t)
			t.Run("openai", func(t *testing.T) {
				client := newOpenAI(p, text, h2)
				_, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{Model: "gpt-4o", Messages: userMessage("hello")})
				var apiErr *openai.Error
				if !errors.As(err, &apiErr) || apiErr.StatusCode != c.status || apiErr.Code != c.code || apiErr.Message == "" || apiErr.Type == "" {
					t.Errorf("error %v", err)
				}
			})
			t.Run("anthropic", func(t *testing.T) {
				client := newAnthropic(p, text, h2)
				_, err := client.Messages.New(ctx, claudeParams("claude-sonnet-4-5", "hello"))
				var apiErr *anthropic.Error
				kind := map[int]string{401: "authentication_error", 403: "permission_error"}[c.status]
				if !errors.As(err, &apiErr) || apiErr.StatusCode != c.status || string(apiErr.Type()) != kind || apiErr.RequestID == "" || !strings.Contains(apiErr.RawJSON(), c.code) {
					t.Errorf("error %v", err)
				}
			})
			t.Run("gemini", func(t *testing.T) {
				_, err := newGemini(t, p, text, h2).Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("hello"), nil)
				var apiErr genai.APIError
				if !errors.As(err, &apiErr) || apiErr.Code != c.status || apiErr.Status == "" || len(apiErr.Details) == 0 || apiErr.Details[0]["reason"] != c.code {
					t.Errorf("error %v", err)
				}
			})
		})
	}
	t.Cleanup(func() { sim.untouched(t, 0) })
}

// openDatabase is a second program at a proxy's database.
func openDatabase(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(bounded(t), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// TestStoreUnavailable breaks the database below a running proxy.
func TestStoreUnavailable(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.database = ownSQLite
	p := start(t, s)
	a := p.account(t)
	db := openDatabase(t, filepath.Join(p.dir, "data", "llm-proxy.db"))
	execute(t, db, "ALTER TABLE tokens RENAME TO tokens_gone")
	for _, d := range allDialects {
		t.Run(string(d), func(t *testing.T) {
			got := p.do(t, d.ask(string(d), a.token, "m", false))
			d.refused(t, got, http.StatusServiceUnavailable, "store_unavailable")
			if got.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			for _, detail := range []string{"tokens", "SQL", "sqlite"} {
				if strings.Contains(strings.ReplaceAll(got.body, "cannot check tokens", ""), detail) {
					t.Errorf("the answer tells %q: %s", detail, got.body)
				}
			}
		})
	}
	sim.untouched(t, 0)
	execute(t, db, "ALTER TABLE tokens_gone RENAME TO tokens")
	eventually(t, "the token works again", func() bool { return p.do(t, chat(a.token, "m", false)).status == http.StatusOK })
}
