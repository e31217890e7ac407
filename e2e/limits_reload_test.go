package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestReloadKeepsCounters: what has been used stays used when a rate is changed by a
// reload, and what a rate is counts from the next request.
func TestReloadKeepsCounters(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	with := func(n int) site {
		s := bounding(t, against(sim))
		s.handler = fmt.Sprintf("rate_limit token %d/1h\ntoken_limit project 100000/1d\nconcurrency global %d", n, n)
		return s
	}
	p := start(t, with(3))
	a := p.account(t, object{"max_requests": 100, "budget_usd": "1", "budget_period": "month"})
	ask := openAIDialect.atMost(a.token, "sim-chunks-40", answerTokens, false)
	remains := func(n int) {
		t.Helper()
		if got := p.do(t, ask); got.status != http.StatusOK || got.header.Get("X-Ratelimit-Remaining-Requests") != fmt.Sprint(n) {
			t.Errorf("%d, %q remain, want %d: %s", got.status, got.header.Get("X-Ratelimit-Remaining-Requests"), n, got.body)
		}
	}
	refused := func(limit string) {
		t.Helper()
		got := p.do(t, ask)
		openAIDialect.refused(t, got, http.StatusTooManyRequests, "rate_limit_exceeded")
		if said := metadata(t, got.body)["limit"]; said != limit {
			t.Errorf("%s, want %s: %s", said, limit, got.body)
		}
	}
	remains(2)
	remains(1)
	p.reload(with(5))
	remains(2)
	p.reload(with(2))
	refused("requests")
	p.reload(with(4))
	remains(0)
	refused("requests")
	if requests, _ := a.settled(t); requests != 4 {
		t.Errorf("%d requests are used, want 4", requests)
	}

	// A stream from before keeps its slot.
	p.reload(with(10))
	stream := ask
	stream.body = strings.Replace(stream.body, `"stream":false`, `"stream":true`, 1)
	release := sim.hold(t, a.key)
	p.open(t, bounded(t), stream)
	s := with(10)
	s.handler = "concurrency global 1"
	p.reload(s)
	refused("concurrency")
	release()
	eventually(t, "the slot is free", func() bool { return p.do(t, ask).status == http.StatusOK })
}

// TestWindows: windows of any length between a second and a year are kept, side by
// side, and others are refused with what was expected.
func TestWindows(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.handler = "rate_limit token 20/s\nrate_limit token 1000/m\nrate_limit token 5000/90s\nrate_limit token 10000/1h\nrate_limit token 30/1d\n" +
		"token_limit token 1000000/1d\nrate_limit ip 100000/1s\nrate_limit project 100000/366d"
	p := start(t, s)
	a := p.account(t)
	limits := make(map[string]int) // by limit in the headers
	for range 30 {
		eventually(t, "a second's requests have room", func() bool {
			got := p.do(t, chat(a.token, "m", false))
			limits[got.header.Get("X-Ratelimit-Limit-Requests")]++
			return got.status == http.StatusOK
		})
	}
	got := p.do(t, chat(a.token, "m", false))
	openAIDialect.refused(t, got, http.StatusTooManyRequests, "rate_limit_exceeded")
	if got.header.Get("X-Ratelimit-Limit-Requests") != "30" || got.header.Get("X-Should-Retry") != "false" || len(got.header.Get("Retry-After")) < 5 {
		t.Errorf("the day's: %v", got.header)
	}
	if limits["30"] == 0 {
		t.Errorf("the headers told of %v", limits)
	}
	for _, rate := range []string{"10/500ms", "10/0s", "10/367d", "10/", "ten/1m", "-1/1m", "10"} {
		s.handler = "rate_limit token " + rate
		if err := p.load(s); err == nil || !strings.Contains(err.Error(), "rate_limit") && !strings.Contains(err.Error(), "expected") {
			t.Errorf("%s: %v", rate, err)
		}
	}
}
