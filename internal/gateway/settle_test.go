package gateway_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/internal/upstream"
)

// newLedger keeps accounts in memory.
func newLedger(t testing.TB) *ledger.Ledger {
	t.Helper()
	l, err := ledger.New(ledger.Config{Store: &rows{rows: make(map[ledger.Key]*ledger.Row), leases: make(map[ledger.Key]*ledger.Lease)}})
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

// TestSentOnce: what one request of a quota lets through reaches the provider once,
// though the connection breaks and the client has made it safe to repeat.
func TestSentOnce(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) > 1 { // has done the work, and dies
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	for _, line := range []string{"Accept: */*", "Idempotency-Key: once", "X-Idempotency-Key: once"} {
		calls.Store(0)
		transport := upstream.NewTransport(upstream.Settings{MaxIdleConnsPerHost: 4})
		defer transport.CloseIdleConnections()
		own, l := project.Limits{MaxRequests: of(2)}, newLedger(t)
		r := newRig(t, setup{
			upstream: transport,
			provider: func(c *provider.Config) { c.BaseURL = server.URL },
			token:    func(tk *token.Token) { tk.Policy.Limits, tk.Version = own, 1 },
			gateway:  func(c *gateway.Config) { c.Limits.Ledger, c.ForwardHeaders = l, []string{"*"} },
		})
		r.wantOK(r.do(r.chat("{}", line)), "{}") // and leaves a connection, on which the next one goes
		r.wantError(r.do(r.chat("{}", line)), http.StatusBadGateway, "upstream_error")
		if n := calls.Load(); n != 2 {
			t.Errorf("%s: the provider was asked %d times, want 2", line, n)
		}
		r.wantError(r.do(r.chat("{}", line)), http.StatusTooManyRequests, "quota_exceeded")
		if b := r.used(l, own); b.Used != 2 {
			t.Errorf("%s: %+v", line, b)
		}
	}
}

// TestIdempotencyKey: the client's key reaches the provider, under its name.
func TestIdempotencyKey(t *testing.T) {
	r := newRig(t, setup{gateway: func(c *gateway.Config) { c.ForwardHeaders = []string{"*idempotency-key"} }})
	r.wantOK(r.do(r.chat("{}", "Idempotency-Key: a", "X-Idempotency-Key: b")), "{}")
	got := make(map[string]string)
	for name, values := range r.upstream.only(t).Header {
		got[http.CanonicalHeaderKey(name)] = strings.Join(values, ", ")
	}
	if got["Idempotency-Key"] != "a" || got["X-Idempotency-Key"] != "b" {
		t.Errorf("%v", got)
	}
}

// TestUnboundedAnswerBreaksOff: a request whose cost nothing bounds is charged what its
// answer was estimated to cost, if that has no usage because it broke off.
func TestUnboundedAnswerBreaksOff(t *testing.T) {
	own := project.Limits{BudgetUSD: dollars("0.01")}
	r, _, l := withLedger(t, own, project.Limits{AllowUnbounded: true})
	frame := `data: {"model":"gpt-4o","choices":[{"delta":{"content":"` + strings.Repeat("word ", 2000) + "\"}}]}\n\n"
	r.upstream.answer = func(*http.Request) (*http.Response, error) {
		resp := reply(http.StatusOK, eventStream, "")
		resp.Body, resp.ContentLength = &brokenBody{strings.NewReader(strings.Repeat(frame, 20)), io.ErrUnexpectedEOF}, -1
		return resp, nil
	}
	const body = `{"model":"gpt-4o","stream":true,"max_tokens":100000,"tools":[{"type":"code_interpreter"}]}`
	a := r.do(r.chat(body))
	if a.Code != http.StatusOK || !a.aborted || !a.rec.Estimated || a.rec.CostNanoUSD.N <= int64(*own.BudgetUSD) {
		t.Fatalf("%d, aborted %t, %+v", a.Code, a.aborted, a.rec)
	}
	if b := r.used(l, own); b.Used != a.rec.CostNanoUSD.N {
		t.Errorf("charged %d, the estimate is %d", b.Used, a.rec.CostNanoUSD.N)
	}
	r.wantRefusedAfter(r.do(r.chat(body)), http.StatusPaymentRequired, "budget_exceeded", 1)
}

// TestWindowsAreApart: what requests of a token without rates have used is none of
// another token's tokens a minute, however their requests alternate.
func TestWindowsAreApart(t *testing.T) {
	const body = `{"model":"gpt-4o","max_tokens":500}`
	const unknown = "text of which nobody knows what it has used"
	for _, used := range []int{1, 100_000} {
		memory := limit.NewMemory()
		t.Cleanup(memory.Close)
		r := newRig(t, setup{
			token: func(tk *token.Token) { tk.Policy.Limits, tk.Version = project.Limits{TPM: of(2000)}, 1 },
			gateway: func(c *gateway.Config) {
				c.Limits = gateway.Limits{Limiter: memory, Ledger: newLedger(t), Estimator: new(limit.Estimator)}
			},
		})
		other, _ := r.store.addToken(t, r.projectID, func(tk *token.Token) {
			tk.Policy.Limits, tk.Version = project.Limits{MaxRequests: of(100)}, 1
		})
		for n := range 8 {
			r.upstream.answer = always(http.StatusOK, "text/plain", unknown)
			a := r.do(r.chat(body))
			if n >= 3 { // 508 each, as estimated
				r.wantError(a, http.StatusTooManyRequests, "rate_limit_exceeded")
			} else {
				r.wantOK(a, unknown)
				if got, want := a.Header().Get("X-Ratelimit-Remaining-Tokens"), strconv.Itoa(2000-508*(n+1)); got != want {
					t.Errorf("%s tokens remain, want %s", got, want)
				}
			}
			usage := `{"model":"gpt-4o","usage":{"prompt_tokens":0,"completion_tokens":` + strconv.Itoa(used) + `,"total_tokens":` + strconv.Itoa(used) + `}}`
			r.upstream.answer = always(http.StatusOK, "application/json", usage)
			r.wantOK(r.do(r.chat(body, "X-Api-Key:", "X-Api-Key: "+other)), usage)
		}
	}
}

// TestFailuresReturnTokens: what no model has worked on uses none of the tokens a
// minute.
func TestFailuresReturnTokens(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		status int
	}{
		"the provider's error":   {always(http.StatusInternalServerError, "application/json", "{}"), http.StatusInternalServerError},
		"the provider's refusal": {always(http.StatusBadRequest, "application/json", "{}"), http.StatusBadRequest},
		"no connection": {func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
		}, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			r := withLimits(t, project.Limits{TPM: of(1100)}, project.Limits{})
			r.upstream.answer = tc.answer
			for range 4 {
				a := r.do(r.chat(`{"model":"gpt-4o","max_tokens":500}`))
				if a.Code != tc.status || a.Header().Get("X-Ratelimit-Remaining-Tokens") != strconv.Itoa(1100-508) {
					t.Errorf("%d %v", a.Code, a.Header())
				}
			}
		})
	}
}
