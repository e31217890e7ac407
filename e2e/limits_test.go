package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// bounding is a site whose models cost 1 USD in and 10 USD out a million tokens, take
// 1,000 tokens and give 100. Those with other names than m… and sim-… have no price;
// mute ones do not say what they give.
func bounding(t *testing.T, s site) site {
	t.Helper()
	file := filepath.Join(t.TempDir(), "prices.json")
	const rate = `"input":"1","output":"10"`
	const models = `{"m":{` + rate + `,"context_window":1000,"max_output_tokens":100},"sim-*":{` + rate + `,"context_window":1000,"max_output_tokens":100},"mute":{` + rate + `}}`
	if err := os.WriteFile(file, []byte(`{"openai":`+models+`,"anthropic":`+models+`,"gemini":`+models+`}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.app += "\t\tprices " + file + "\n"
	return s
}

// boundOf is what is held for a request, which counts its bytes as tokens.
func boundOf(r request, out int64) int64 { return costOf(int64(len(r.body)), out) }

// usd is an amount of nanodollars as the API writes it.
func usd(nano int64) string {
	text := fmt.Sprintf("%d.%09d", nano/1_000_000_000, nano%1_000_000_000)
	for text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	if text[len(text)-1] == '.' {
		text = text[:len(text)-1]
	}
	return text
}

// metadata is what a refusal says beyond its code, in any dialect.
func metadata(t *testing.T, body string) map[string]string {
	t.Helper()
	var v struct {
		Error struct{ Metadata map[string]string }
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	return v.Error.Metadata
}

// standing is a limit in the answer to GET /v1/llm-proxy/token. Requests are
// numbers, and dollars are text.
type standing struct {
	Limit, Used, Held, Available any
	Period                       string
	ResetsAt                     string `json:"resets_at"`
}

// standings are the limits of a token, and of its project.
func (p *proxy) standings(t *testing.T, token string) (own, theirs map[string]*standing) {
	t.Helper()
	got := p.do(t, request{path: "/v1/llm-proxy/token", token: token})
	if got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	var self struct {
		Limits struct{ Token, Project map[string]json.RawMessage }
	}
	if err := json.Unmarshal([]byte(got.body), &self); err != nil {
		t.Fatal(err)
	}
	read := func(from map[string]json.RawMessage) map[string]*standing {
		to := make(map[string]*standing)
		for _, name := range []string{"rpm", "tpm", "concurrency", "max_requests", "budget_usd"} {
			var s *standing
			if err := json.Unmarshal(from[name], &s); err != nil {
				t.Fatalf("%s: %v in %s", name, err, got.body)
			}
			to[name] = s
		}
		return to
	}
	return read(self.Limits.Token), read(self.Limits.Project)
}

// balance is a strict limit's row in limits_usage.
func (p *proxy) balance(t *testing.T, path, limit string) object {
	t.Helper()
	usage, _ := p.manage(t, "GET", path, nil)["limits_usage"].([]any)
	for _, row := range usage {
		if row := row.(object); row["limit"] == limit {
			return row
		}
	}
	t.Fatalf("no %s in %v", limit, usage)
	return nil
}

// patch changes members of the token.
func (a *account) patch(t *testing.T, members object) {
	t.Helper()
	a.p.manage(t, "PATCH", "tokens/"+a.tokenID, members)
}
