package e2e

import (
	"fmt"
	"math/big"
	"net/http"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestCacheLimits: a stored answer is for who would get one from the provider, and
// uses up nothing but the rate.
func TestCacheLimits(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, cachedSite(sim)))
	owner := p.account(t)
	ask := func(a *account) request { return optIn(openAIDialect.atMost(a.token, "m", answerTokens, false)) }
	stored := p.do(t, ask(owner))
	if stored.status != http.StatusOK || !isHit(p.do(t, ask(owner))) {
		t.Fatalf("%d %v %s", stored.status, stored.header, stored.body)
	}
	member := func(t *testing.T, policy object) *account {
		a := &account{p: p, projectID: owner.projectID, key: owner.key}
		a.tokenID, a.token = a.mint(t, policy)
		return a
	}
	hit := func(t *testing.T, a *account) {
		t.Helper()
		if got := p.do(t, ask(a)); !isHit(got) || got.body != stored.body {
			t.Errorf("no hit: %d %v %s", got.status, got.header, got.body)
		}
	}
	refused := func(t *testing.T, a *account, status int, code string) {
		t.Helper()
		openAIDialect.refused(t, p.do(t, ask(a)), status, code)
	}
	past := func(t *testing.T, a *account) { // asks the provider
		t.Helper()
		r := ask(a)
		r.header = nil
		if got := p.do(t, r); got.status != http.StatusOK || isHit(got) {
			t.Errorf("%d %v %s", got.status, got.header, got.body)
		}
		a.settled(t)
	}
	for name, run := range map[string]func(t *testing.T){
		"quota": func(t *testing.T) {
			a := member(t, object{"max_requests": 1})
			for range 5 {
				hit(t, a) // which use up nothing
			}
			if used, _ := a.settled(t); used != 0 {
				t.Errorf("%d requests are used", used)
			}
			past(t, a)
			refused(t, a, http.StatusTooManyRequests, "quota_exceeded")
		},
		"no quota at all": func(t *testing.T) {
			refused(t, member(t, object{"max_requests": 0}), http.StatusTooManyRequests, "quota_exceeded")
		},
		"budget": func(t *testing.T) {
			bound := boundOf(ask(owner), answerTokens)
			a := member(t, object{"budget_usd": usd(bound)})
			for range 5 {
				hit(t, a)
			}
			if _, nano := a.settled(t); nano != "0" {
				t.Errorf("%s USD are used", nano)
			}
			past(t, a)
			refused(t, a, http.StatusPaymentRequired, "budget_exceeded")
		},
		"rate": func(t *testing.T) {
			a := member(t, object{"rpm": 3})
			for range 3 {
				hit(t, a)
			}
			refused(t, a, http.StatusTooManyRequests, "rate_limit_exceeded")
		},
		"tokens": func(t *testing.T) { // a hit uses none, beyond the moment in which it is held against the limit
			a := member(t, object{"tpm": 400})
			for range 8 {
				hit(t, a)
			}
		},
		"concurrency": func(t *testing.T) {
			a := member(t, object{"concurrency": 1})
			for range 4 {
				hit(t, a) // each gives its slot back
			}
		},
		"revoked": func(t *testing.T) {
			a := member(t, nil)
			hit(t, a)
			a.revoke(t)
			refused(t, a, http.StatusUnauthorized, "token_inactive")
		},
		"unknown": func(t *testing.T) {
			a := *owner
			a.token = a.token[:len(a.token)-6] + "000000"
			refused(t, &a, http.StatusUnauthorized, "invalid_token")
		},
		"model": func(t *testing.T) {
			a := member(t, nil)
			hit(t, a)
			a.patch(t, object{"allowed_models": []string{"other"}})
			refused(t, a, http.StatusForbidden, "model_not_allowed")
		},
		"endpoint": func(t *testing.T) {
			a := member(t, nil)
			hit(t, a)
			a.patch(t, object{"allowed_endpoints": []string{"/v1/embeddings"}})
			refused(t, a, http.StatusNotFound, "endpoint_not_found")
		},
		"address": func(t *testing.T) {
			refused(t, member(t, object{"allowed_ips": []string{"192.0.2.0/24"}}), http.StatusForbidden, "ip_not_allowed")
		},
	} {
		t.Run(name, run) // not later: what is stored gets old
	}
	t.Run("books", func(t *testing.T) {
		a := member(t, object{"max_requests": 100, "budget_usd": "1"})
		r := optIn(openAIDialect.atMost(a.token, "sim-chunks-40", answerTokens, false))
		for i := range 6 {
			if got := p.do(t, r); got.status != http.StatusOK || isHit(got) != (i > 0) {
				t.Errorf("request %d: %d %v", i, got.status, got.header)
			}
		}
		hits := 0
		var cost int64
		for _, ev := range p.cacheEvents(t, a.tokenID, 6) {
			in, out := ev.tokens()
			if ev.CostNanoUSD == nil || ev.Status != http.StatusOK || ev.Outcome != "ok" {
				t.Fatalf("%+v", ev)
			}
			cost += *ev.CostNanoUSD
			switch ev.Cache {
			case "hit":
				if hits++; *ev.CostNanoUSD != 0 || in+out != 0 {
					t.Errorf("%+v costs %d", ev, *ev.CostNanoUSD)
				}
			case "miss":
				if *ev.CostNanoUSD != costOf(in, out) || out != 40 {
					t.Errorf("%+v costs %d", ev, *ev.CostNanoUSD)
				}
			default:
				t.Errorf("%+v", ev)
			}
		}
		if requests, nano := a.settled(t); hits != 5 || requests != 1 || nano != usd(cost) {
			t.Errorf("%d hits; %d requests and %s USD are used, want 1 and %s", hits, requests, nano, usd(cost))
		}
		eventually(t, "the sums", func() bool { n, _, _, _ := a.usageTotal(t); return n == 6 })
		total := p.manage(t, "GET", "usage?group_by=token&token_id="+a.tokenID, nil)["total"].(object)
		_, in, out, sum := a.usageTotal(t)
		if want := new(big.Rat).SetFrac64(cost, 1_000_000_000); sum.Cmp(want) != 0 || costOf(in, out) != cost || fmt.Sprint(total["cache_hits"]) != "5" {
			t.Errorf("in %d, out %d, cost %s, want %s: %v", in, out, sum, want, total)
		}
	})
}
