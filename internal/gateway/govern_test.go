package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// rule is a limit of a gateway.
func rule(scope limit.Scope, kind limit.Kind, window time.Duration, amount int64) limit.Limit {
	return limit.Limit{Key: limit.Key{Scope: scope, Kind: kind, Window: window}, Amount: amount}
}

// withLimits makes a rig whose gateway has rules, and whose token and project have
// limits of their own.
func withLimits(t testing.TB, own, theirs project.Limits, rules ...limit.Limit) *rig {
	t.Helper()
	memory := limit.NewMemory()
	t.Cleanup(memory.Close)
	return newRig(t, setup{
		token:   func(tk *token.Token) { tk.Policy.Limits = own },
		project: func(p *project.Snapshot) { p.Policy.Limits = theirs },
		gateway: func(c *gateway.Config) { c.Limits = gateway.Limits{Limiter: memory, Rules: rules} },
	})
}

func of(n int64) *int64 { return &n }

func metadata(t testing.TB, a answer) map[string]string {
	t.Helper()
	var body struct {
		Error struct{ Metadata map[string]string }
	}
	if err := json.Unmarshal(a.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	return body.Error.Metadata
}

// TestRates: as many requests pass as the tightest limit allows, and the next one
// is told which it was.
func TestRates(t *testing.T) {
	for _, tc := range []struct {
		name          string
		own, theirs   project.Limits
		rules         []limit.Limit
		passes        int
		limit, scope  string
		retry, header string // X-Should-Retry, false where the wait is longer than a minute; X-Ratelimit-Limit-Requests
	}{
		{name: "none", passes: 5},
		{name: "token", own: project.Limits{RPM: of(3)}, passes: 3, limit: "requests", scope: "token", retry: "false", header: "3"},
		{name: "project", theirs: project.Limits{RPM: of(2)}, passes: 2, limit: "requests", scope: "project", retry: "false", header: "2"},
		{name: "both", own: project.Limits{RPM: of(4)}, theirs: project.Limits{RPM: of(2)}, passes: 2, limit: "requests", scope: "project", retry: "false", header: "2"},
		{name: "a rule for each token", rules: []limit.Limit{rule(limit.Token, limit.Requests, time.Minute, 2)}, passes: 2, limit: "requests", scope: "token", retry: "false", header: "2"},
		{name: "the token's instead of the rule's", own: project.Limits{RPM: of(4)}, rules: []limit.Limit{rule(limit.Token, limit.Requests, time.Minute, 2)}, passes: 4, limit: "requests", scope: "token", retry: "false", header: "4"},
		{name: "a rule of another window stays", own: project.Limits{RPM: of(4)}, rules: []limit.Limit{rule(limit.Token, limit.Requests, time.Hour, 2)}, passes: 2, limit: "requests", scope: "token", retry: "false", header: "2"},
		{name: "address", rules: []limit.Limit{rule(limit.IP, limit.Requests, time.Second, 1)}, passes: 1, limit: "requests", scope: "ip", header: "1"},
		{name: "everybody", rules: []limit.Limit{rule(limit.Global, limit.Requests, time.Minute, 1)}, passes: 1, limit: "requests", scope: "global", retry: "false", header: "1"},
		{name: "nothing", own: project.Limits{RPM: of(0)}, limit: "requests", scope: "token", retry: "false"},
		{name: "tokens", own: project.Limits{TPM: of(250)}, passes: 2, limit: "tokens", scope: "token", retry: "false"}, // 100 and a few bytes each
		{name: "tokens of the project", theirs: project.Limits{TPM: of(150)}, passes: 1, limit: "tokens", scope: "project", retry: "false"},
		{name: "tokens by a rule", rules: []limit.Limit{rule(limit.Token, limit.Tokens, time.Minute, 150)}, passes: 1, limit: "tokens", scope: "token", retry: "false"},
		{name: "the token's tokens instead", own: project.Limits{TPM: of(250)}, rules: []limit.Limit{rule(limit.Token, limit.Tokens, time.Minute, 150)}, passes: 2, limit: "tokens", scope: "token", retry: "false"},
		{name: "more tokens than ever fit", own: project.Limits{TPM: of(99)}, limit: "tokens", scope: "token", retry: "false"},
		{name: "no slot at all", own: project.Limits{Concurrency: of(0)}, limit: "concurrency", scope: "token", retry: "false"},
		{name: "slots are given back", own: project.Limits{Concurrency: of(1)}, passes: 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := withLimits(t, tc.own, tc.theirs, tc.rules...)
			const body = `{"model":"gpt-4o","max_tokens":100}`
			const used = `{"usage":{"prompt_tokens":8,"completion_tokens":100}}` // as estimated
			r.upstream.answer = func(*http.Request) (*http.Response, error) {
				return reply(http.StatusOK, "application/json", used), nil
			}
			for n := range tc.passes {
				a := r.do(r.chat(body))
				r.wantOK(a, used)
				if want := tc.header; a.Header().Get("X-Ratelimit-Limit-Requests") != want {
					t.Errorf("limit %q, want %q", a.Header().Get("X-Ratelimit-Limit-Requests"), want)
				}
				if want := strconv.Itoa(tc.passes - n - 1); tc.header != "" && a.Header().Get("X-Ratelimit-Remaining-Requests") != want {
					t.Errorf("%q remain, want %q", a.Header().Get("X-Ratelimit-Remaining-Requests"), want)
				}
			}
			if tc.limit == "" {
				return
			}
			a := r.do(r.chat(body))
			r.wantError(a, http.StatusTooManyRequests, "rate_limit_exceeded")
			if a.rec.Outcome != gateway.OutcomeRefused || a.rec.Attempts != 0 || a.rec.Limit != tc.limit || len(r.upstream.requests()) != tc.passes {
				t.Errorf("record %+v", a.rec)
			}
			if m := metadata(t, a); m["limit"] != tc.limit || m["scope"] != tc.scope {
				t.Errorf("metadata %v", m)
			}
			if got := a.Header().Get("X-Should-Retry"); got != tc.retry {
				t.Errorf("X-Should-Retry %q, want %q", got, tc.retry)
			}
			if after := a.Header().Get("Retry-After"); (after == "") != (tc.passes == 0) {
				t.Errorf("Retry-After %q", after) // what can never pass has none
			}
		})
	}
}

// TestConcurrency has a stream hold its slot until it ends.
func TestConcurrency(t *testing.T) {
	upstream := &gated{entered: make(chan struct{}), leave: make(chan struct{})}
	memory := limit.NewMemory()
	t.Cleanup(memory.Close)
	r := newRig(t, setup{upstream: upstream, gateway: func(c *gateway.Config) {
		c.Limits = gateway.Limits{Limiter: memory, Rules: []limit.Limit{rule(limit.Project, limit.Concurrency, 0, 1)}}
	}})
	first := make(chan answer)
	go func() { first <- r.do(r.chat("{}")) }()
	<-upstream.entered
	a := r.do(r.chat("{}"))
	r.wantError(a, http.StatusTooManyRequests, "rate_limit_exceeded")
	if m := metadata(t, a); m["limit"] != "concurrency" || a.Header().Get("Retry-After") != "1" || a.Header().Get("X-Should-Retry") != "" {
		t.Errorf("%v, %v", m, a.Header())
	}
	close(upstream.leave)
	r.wantOK(<-first, "{}")
	go func() { <-upstream.entered }()
	r.wantOK(r.do(r.chat("{}")), "{}")
}

// gated is a provider that answers when it may.
type gated struct{ entered, leave chan struct{} }

func (g *gated) RoundTrip(*http.Request) (*http.Response, error) {
	g.entered <- struct{}{}
	<-g.leave
	return reply(http.StatusOK, "application/json", "{}"), nil
}

// TestSettledTokens: what an answer has used in truth is what counts afterwards.
func TestSettledTokens(t *testing.T) {
	const usage = `{"model":"gpt-4o","usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`
	r := withLimits(t, project.Limits{TPM: of(1000)}, project.Limits{})
	r.upstream.answer = func(*http.Request) (*http.Response, error) {
		return reply(http.StatusOK, "application/json", usage), nil
	}
	for n := range 10 {
		a := r.do(r.chat(`{"model":"gpt-4o","max_tokens":500}`))
		r.wantOK(a, usage)
		// Of 1,000, 30 for each answer before, and the estimate of this one: a
		// token for each four bytes and 500.
		if want, got := strconv.Itoa(1000-30*n-508), a.Header().Get("X-Ratelimit-Remaining-Tokens"); got != want {
			t.Errorf("after %d answers %s tokens remain, want %s", n, got, want)
		}
	}
}

// TestProvidersQuota: of two limits a client hears of the tighter one.
func TestProvidersQuota(t *testing.T) {
	for _, tc := range []struct {
		name, limit, remaining, reset string // the provider's
		wantLimit, wantRemaining      string
		wantReset                     string // "": ours
	}{
		{"ours is tighter", "5000", "4999", "12ms", "10", "9", ""},
		{"the provider's is tighter", "5", "3", "6m0s", "5", "3", "6m0s"},
		{"a lower limit with more left", "10", "100", "1s", "10", "9", ""},
		{"the provider has fewer left", "5000", "2", "6m0s", "10", "2", "6m0s"},
		{"nonsense", "many", "some", "later", "10", "9", ""},
		{"none", "", "", "", "10", "9", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := withLimits(t, project.Limits{RPM: of(10)}, project.Limits{})
			r.upstream.answer = func(*http.Request) (*http.Response, error) {
				resp := reply(http.StatusOK, "application/json", "{}")
				for name, value := range map[string]string{"Limit": tc.limit, "Remaining": tc.remaining, "Reset": tc.reset} {
					if value != "" {
						resp.Header.Set("X-Ratelimit-"+name+"-Requests", value)
						resp.Header.Set("X-Ratelimit-"+name+"-Tokens", "7")
					}
				}
				return resp, nil
			}
			h := r.do(r.chat("{}")).Header()
			if h.Get("X-Ratelimit-Limit-Requests") != tc.wantLimit || h.Get("X-Ratelimit-Remaining-Requests") != tc.wantRemaining {
				t.Errorf("%v", h)
			}
			reset := h.Get("X-Ratelimit-Reset-Requests")
			if tc.wantReset != "" && reset != tc.wantReset {
				t.Errorf("reset %q, want %q", reset, tc.wantReset)
			}
			if d, err := time.ParseDuration(reset); tc.wantReset == "" && (err != nil || d <= 0 || d > 62*time.Second) {
				t.Errorf("reset %q, %v", reset, err)
			}
			if tc.limit != "" && h.Get("X-Ratelimit-Limit-Tokens") != "7" { // which we do not limit
				t.Errorf("%v", h)
			}
		})
	}
}

// TestAnthropicQuota has Anthropic's own headers on its paths, besides the usual.
func TestAnthropicQuota(t *testing.T) {
	memory := limit.NewMemory()
	t.Cleanup(memory.Close)
	r := newRig(t, setup{
		provider: func(c *provider.Config) { c.Name = "anthropic" },
		gateway: func(c *gateway.Config) {
			c.Limits = gateway.Limits{Limiter: memory, Rules: []limit.Limit{rule(limit.Token, limit.Requests, time.Minute, 5)}}
			c.HideHeaders = true
		},
	})
	h := r.do(r.request(http.MethodPost, "/v1/messages", `{"model":"claude-sonnet-4-5","max_tokens":9}`)).Header()
	if h.Get("Anthropic-Ratelimit-Requests-Limit") != "5" || h.Get("Anthropic-Ratelimit-Requests-Remaining") != "4" || h.Get("X-Ratelimit-Remaining-Requests") != "4" {
		t.Errorf("%v", h)
	}
	if at, err := time.Parse(time.RFC3339, h.Get("Anthropic-Ratelimit-Requests-Reset")); err != nil || time.Until(at) > 62*time.Second {
		t.Errorf("%v, %v", h, err)
	}
	if h.Get("X-Llm-Proxy-Request-Id") != "" {
		t.Errorf("%v", h) // hidden; limits are not
	}
}

// TestWindowPasses waits as long as the answer says.
func TestWindowPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := withLimits(t, project.Limits{RPM: of(2)}, project.Limits{})
		for range 3 {
			r.wantOK(r.do(r.chat("{}")), "{}")
			r.wantOK(r.do(r.chat("{}")), "{}")
			a := r.do(r.chat("{}"))
			r.wantError(a, http.StatusTooManyRequests, "rate_limit_exceeded")
			millis, err := strconv.Atoi(a.Header().Get("Retry-After-Ms"))
			seconds, err2 := strconv.Atoi(a.Header().Get("Retry-After"))
			if err != nil || err2 != nil || seconds < 1 || time.Duration(millis)*time.Millisecond > time.Duration(seconds)*time.Second {
				t.Fatalf("%v", a.Header())
			}
			time.Sleep(time.Duration(millis)*time.Millisecond - 2*time.Millisecond)
			r.wantError(r.do(r.chat("{}")), http.StatusTooManyRequests, "rate_limit_exceeded")
			time.Sleep(2 * time.Millisecond)
		}
	})
}

// away is a limiter that cannot tell.
type away struct{ err error }

func (a away) Take(_ context.Context, _ limit.Request, _ *limit.Ticket) (limit.Decision, error) {
	return limit.Decision{}, a.err
}

func TestLimiterAway(t *testing.T) {
	for _, err := range []error{limit.ErrUnavailable, errors.New("out of bounds")} {
		r := newRig(t, setup{gateway: func(c *gateway.Config) {
			c.Limits = gateway.Limits{Limiter: away{err}, Rules: []limit.Limit{rule(limit.Global, limit.Requests, time.Minute, 5)}}
		}})
		a := r.do(r.chat("{}"))
		r.wantRefused(a, http.StatusServiceUnavailable, "limiter_unavailable")
		if a.Header().Get("Retry-After") != "1" || strings.Contains(a.Body.String(), err.Error()) {
			t.Errorf("%v %s", a.Header(), a.Body)
		}
	}
}

// TestUnknownRule: a limit that cannot be is refused when the gateway is made.
func TestUnknownRule(t *testing.T) {
	r := newRig(t, setup{})
	_, err := gateway.New(gateway.Config{
		Providers: new(provider.Table), Authority: r.authority, Inflight: r.inflight,
		Limits: gateway.Limits{Rules: []limit.Limit{{}}},
	})
	if err == nil {
		t.Error("accepted")
	}
}
