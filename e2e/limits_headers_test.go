package e2e

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestLimitHeaders reads what is left from the headers that SDKs and agents go by: of
// our limit and the provider's the tighter one. The simulated provider says 10,000
// requests and more tokens than anybody uses here.
func TestLimitHeaders(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	theirs := p.do(t, chat(p.account(t).token, "m", false)).header
	for _, proto := range allProtocols {
		t.Run(string(proto), func(t *testing.T) {
			t.Parallel()
			tight := p.account(t, object{"rpm": 2, "tpm": 5000})
			for _, remaining := range []string{"1", "0"} {
				r := chat(tight.token, "m", false)
				r.proto = proto
				got := p.do(t, r)
				quota(t, got, http.StatusOK, "X-Ratelimit-", "2", remaining)
				if got.header.Get("X-Ratelimit-Limit-Tokens") != "5000" {
					t.Errorf("%v", got.header)
				}
				if n, err := strconv.Atoi(got.header.Get("X-Ratelimit-Remaining-Tokens")); err != nil || n <= 0 || n >= 5000 {
					t.Errorf("%v", got.header)
				}
			}
			r := chat(tight.token, "m", false)
			r.proto = proto
			quota(t, p.do(t, r), http.StatusTooManyRequests, "X-Ratelimit-", "2", "0")

			r = chat(p.account(t, object{"rpm": 1_000_000, "tpm": 1_000_000_000}).token, "m", false)
			r.proto = proto
			got := p.do(t, r)
			for _, name := range []string{"Limit-Requests", "Remaining-Requests", "Reset-Requests", "Limit-Tokens", "Remaining-Tokens", "Reset-Tokens"} {
				if name = "X-Ratelimit-" + name; got.header.Get(name) != theirs.Get(name) || theirs.Get(name) == "" {
					t.Errorf("%s %q, want the provider's %q", name, got.header.Get(name), theirs.Get(name))
				}
			}
		})
	}
	t.Run("anthropic", func(t *testing.T) {
		a := p.account(t, object{"rpm": 1})
		ask := anthropicDialect.ask("anthropic", a.token, "m", false)
		quota(t, p.do(t, ask), http.StatusOK, "Anthropic-Ratelimit-", "1", "0")
		quota(t, p.do(t, ask), http.StatusTooManyRequests, "Anthropic-Ratelimit-", "1", "0")

		ask.token = p.account(t, object{"rpm": 1_000_000}).token
		got := p.do(t, ask)
		want := theirs.Get("X-Ratelimit-Limit-Requests") // the simulator has one number for both
		if got.header.Get("Anthropic-Ratelimit-Requests-Limit") != want {
			t.Errorf("%v, want %s", got.header, want)
		}
	})
	t.Run("none", func(t *testing.T) {
		got := p.do(t, geminiDialect.ask("gemini", p.account(t).token, "m", false))
		if got.status != http.StatusOK || got.header.Get("X-Ratelimit-Limit-Requests") != "" {
			t.Errorf("%d %v", got.status, got.header)
		}
	})
}

// quota compares the headers about requests.
func quota(t *testing.T, got answer, status int, prefix, limit, remaining string) {
	t.Helper()
	names := [3]string{"Limit-Requests", "Remaining-Requests", "Reset-Requests"}
	if prefix != "X-Ratelimit-" {
		names = [3]string{"Requests-Limit", "Requests-Remaining", "Requests-Reset"}
	}
	h := got.header
	if got.status != status || h.Get(prefix+names[0]) != limit || h.Get(prefix+names[1]) != remaining {
		t.Errorf("%d, want %d; limit %q, %q remain, want %s and %s", got.status, status, h.Get(prefix+names[0]), h.Get(prefix+names[1]), limit, remaining)
	}
	reset := h.Get(prefix + names[2])
	wait, err := time.ParseDuration(reset)
	if prefix != "X-Ratelimit-" {
		var at time.Time
		at, err = time.Parse(time.RFC3339, reset)
		wait = time.Until(at)
	}
	if err != nil || wait <= 0 || wait > 62*time.Second {
		t.Errorf("reset %q: %v", reset, err)
	}
}
