package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// answerTokens is what the requests of these tests want at most.
const answerTokens = 60

// atMost is a request whose answer has so many tokens at most.
func (d dialect) atMost(token, model string, most int, stream bool) request {
	r := d.ask(string(d), token, model, stream)
	switch d {
	case openAIDialect:
		r.body = fmt.Sprintf(`{"max_tokens":%d,`, most) + r.body[1:]
	case anthropicDialect:
		r.body = strings.Replace(r.body, `"max_tokens":1000`, fmt.Sprintf(`"max_tokens":%d`, most), 1)
	case geminiDialect:
		r.body = fmt.Sprintf(`{"generationConfig":{"maxOutputTokens":%d},`, most) + r.body[1:]
	}
	return r
}

// exhaustion is how a limit is used up, and how the next request is refused.
type exhaustion struct {
	name   string
	policy func(bound int64) object // of the token; bound is what a request costs at most
	busy   bool                     // the first request is still under way

	status   int
	code     string
	limit    string // in metadata
	retry    string // x-should-retry; "*": by how long the client has to wait
	waits    bool   // there is a Retry-After
	passes   bool   // when the first request is over
	passed   string // the code of the next refusal otherwise
	lessThan bool   // available_usd is less than hold_usd
}

var exhaustions = []exhaustion{
	{name: "requests", policy: func(int64) object { return object{"rpm": 1} }, status: 429, code: "rate_limit_exceeded", limit: "requests", retry: "*", waits: true},
	{name: "tokens", policy: func(int64) object { return object{"tpm": 100} }, busy: true, status: 429, code: "rate_limit_exceeded", limit: "tokens", retry: "*", waits: true},
	{name: "concurrency", policy: func(int64) object { return object{"concurrency": 1} }, busy: true, status: 429, code: "rate_limit_exceeded", limit: "concurrency", waits: true, passes: true},
	{name: "quota", policy: func(int64) object { return object{"max_requests": 1} }, status: 429, code: "quota_exceeded", limit: "max_requests", retry: "false"},
	{name: "quota under way", policy: func(int64) object { return object{"max_requests": 1} }, busy: true, status: 429, code: "rate_limit_exceeded", limit: "max_requests", retry: "true", waits: true, passed: "quota_exceeded"},
	{name: "budget", policy: func(b int64) object { return object{"budget_usd": usd(b + 1000)} }, status: 402, code: "budget_exceeded", limit: "budget_usd", retry: "false", lessThan: true},
	{name: "budget under way", policy: func(b int64) object { return object{"budget_usd": usd(b + 1000), "budget_period": "month"} }, busy: true, status: 402, code: "budget_in_flight", limit: "budget_usd", retry: "true", waits: true, passed: "budget_exceeded", lessThan: true},
	{name: "budget of nothing", policy: func(int64) object { return object{"budget_usd": 0} }, status: 402, code: "budget_hold_too_large", limit: "budget_usd", retry: "false", lessThan: true},
}

// TestLimitRefusals uses each limit up in every dialect and reads what the next
// request is told.
func TestLimitRefusals(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	i := 0
	for _, d := range allDialects {
		for _, e := range exhaustions {
			proto := allProtocols[i%len(allProtocols)]
			i++
			t.Run(fmt.Sprintf("%s/%s", d, e.name), func(t *testing.T) {
				t.Parallel()
				e.check(t, p, sim, d, proto)
			})
		}
	}
}

func (e exhaustion) check(t *testing.T, p *proxy, sim *provider, d dialect, proto protocol) {
	a := p.account(t)
	bound := boundOf(d.atMost("", "sim-chunks-40", answerTokens, true), answerTokens)
	_, token := a.mint(t, e.policy(bound))
	r := d.atMost(token, "sim-chunks-40", answerTokens, true)
	r.proto = proto
	release := func() {}
	asked := 0
	switch {
	case e.busy:
		release = sim.hold(t, a.key)
		p.open(t, bounded(t), r)
		asked++
	case e.name != "budget of nothing":
		if got := p.do(t, r); got.status != http.StatusOK || got.err != nil {
			t.Fatalf("the first request: %d %s, %v", got.status, got.body, got.err)
		}
		eventually(t, "the first request is settled", func() bool {
			own, _ := p.standings(t, token)
			budget := own["budget_usd"]
			return budget == nil || budget.Held == "0"
		})
		asked++
	}
	got := p.do(t, r)
	d.refused(t, got, e.status, e.code)
	e.checkHeaders(t, got)
	said := metadata(t, got.body)
	if said["limit"] != e.limit || said["scope"] != "token" {
		t.Errorf("metadata %v", said)
	}
	if e.lessThan {
		available, err := strconv.ParseFloat(said["available_usd"], 64)
		if err != nil || said["hold_usd"] != usd(bound) || available >= float64(bound)/1e9 {
			t.Errorf("metadata %v, want a hold of %s", said, usd(bound))
		}
		if _, resets := said["resets_at"]; resets != (e.name == "budget under way") {
			t.Errorf("metadata %v", said)
		}
	}
	if n := len(sim.sightings(a.key)); n != asked {
		t.Errorf("%d requests reached the provider, want %d", n, asked)
	}
	release()
	switch {
	case e.passes:
		eventually(t, "there is room again", func() bool { return p.do(t, r).status == http.StatusOK })
	case e.passed != "":
		eventually(t, "what was held is used", func() bool {
			problem, _ := d.read(p.do(t, r).body)
			return problem.code == e.passed
		})
	}
}

func (e exhaustion) checkHeaders(t *testing.T, got answer) {
	t.Helper()
	after, exact := got.header.Get("Retry-After"), got.header.Get("Retry-After-Ms")
	if e.waits {
		seconds, err := strconv.Atoi(after)
		millis, errMillis := strconv.Atoi(exact)
		if err != nil || errMillis != nil || seconds < 1 || seconds > 62 || millis < 1 || millis > seconds*1000 {
			t.Errorf("Retry-After %q, Retry-After-Ms %q", after, exact)
		}
		if e.retry == "*" {
			if e.retry = ""; millis > 60_000 {
				e.retry = "false"
			}
		}
	} else if after != "" || exact != "" {
		t.Errorf("Retry-After %q, Retry-After-Ms %q", after, exact)
	}
	if retry := got.header.Get("X-Should-Retry"); retry != e.retry {
		t.Errorf("X-Should-Retry %q, want %q after %s ms", retry, e.retry, exact)
	}
}

// TestLimiterUnavailable: Redis counts, is away, and nobody is let through meanwhile.
func TestLimiterUnavailable(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.app = "redis " + strings.Replace(unused(t), "http", "redis", 1)
	s.handler = "on_limiter_failure deny"
	p := start(t, s)
	free, limited := p.account(t), p.account(t, object{"rpm": 100})
	for i, d := range allDialects {
		r := d.ask(string(d), limited.token, "m", false)
		r.proto = allProtocols[i]
		got := p.do(t, r)
		d.refused(t, got, http.StatusServiceUnavailable, "limiter_unavailable")
		if seconds, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || seconds < 1 {
			t.Errorf("%s: Retry-After %q", d, got.header.Get("Retry-After"))
		}
	}
	sim.untouched(t, 0)
	if got := p.do(t, chat(free.token, "m", false)); got.status != http.StatusOK {
		t.Errorf("without limits: %d %s", got.status, got.body)
	}
}
