package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// settled waits until no request holds anything of the token's quota and budget, and
// returns what is used of them.
func (a *account) settled(t *testing.T) (requests int64, nano string) {
	t.Helper()
	eventually(t, "nothing is held", func() bool {
		own, _ := a.p.standings(t, a.token)
		for _, s := range []*standing{own["max_requests"], own["budget_usd"]} {
			if s != nil && fmt.Sprint(s.Held) != "0" {
				return false
			}
			switch {
			case s == nil:
			case s == own["budget_usd"]:
				nano = s.Used.(string)
			default:
				requests = int64(s.Used.(float64))
			}
		}
		return true
	})
	return requests, nano
}

// TestWhatCounts sends requests that end in different ways and reads what each has
// used up of a quota and a budget.
func TestWhatCounts(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := bounding(t, against(sim))
	s.providers["closed"] = unused(t) + "/v1"
	s.options = map[string]string{"closed": "type openai\napi_key sk-closed"}
	p := start(t, s)
	ask := func(model string, stream bool) request { return openAIDialect.atMost("", model, answerTokens, stream) }
	bound := usd(boundOf(ask("sim-chunks-40", true), answerTokens))
	for name, c := range map[string]struct {
		r        request
		end      func(t *testing.T, p *proxy, r request)
		requests int64
		cost     func(t *testing.T, a *account) string
	}{
		"answer":   {ask("sim-chunks-40", false), limitAnswer(200), 1, billed},
		"stream":   {ask("sim-chunks-40", true), limitAnswer(200), 1, billed},
		"messages": {anthropicDialect.atMost("", "sim-chunks-40", answerTokens, true), limitAnswer(200), 1, billed},
		"generate": {geminiDialect.atMost("", "sim-chunks-40", answerTokens, true), limitAnswer(200), 1, billed},
		"departure": {ask("sim-chunks-40+silent-1h", true), func(t *testing.T, p *proxy, r request) {
			stream := p.open(t, bounded(t), r)
			if _, err := io.ReadFull(stream.Body, make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
			stream.Body.Close()
		}, 1, func(*testing.T, *account) string {
			return usd(boundOf(ask("sim-chunks-40+silent-1h", true), answerTokens))
		}},
		"no usage":         {ask("sim-chunks-40+nousage", true), limitAnswer(200), 1, nil},
		"provider's error": {ask("sim-error-500", false), limitAnswer(500), 1, free},
		"provider's limit": {ask("sim-error-429", false), limitAnswer(429), 1, free},
		"key refused":      {ask("sim-error-401", false), limitAnswer(502), 1, free},
		"not connected": {request{path: "/closed/chat/completions", body: ask("m", false).body}, func(t *testing.T, p *proxy, r request) {
			for range 3 {
				openAIDialect.refused(t, p.do(t, r), http.StatusBadGateway, "upstream_error")
			}
		}, 0, free},
		"unknown endpoint": {request{path: "/v1/nothing", body: "{}"}, limitAnswer(404), 0, free},
		"look-up":          {request{path: "/v1/models"}, limitAnswer(200), 1, free},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := p.account(t, object{"max_requests": 5, "budget_usd": "1"})
			c.r.token = a.token
			c.end(t, p, c.r)
			eventually(t, "it is in the books", func() bool { return len(p.requests(t, "token_id="+a.tokenID)) > 0 })
			requests, nano := a.settled(t)
			want := usd(boundOf(c.r, answerTokens)) // as nobody knows
			if c.cost != nil {
				want = c.cost(t, a)
			}
			if requests != c.requests || nano != want {
				t.Errorf("%d requests and %s USD are used, want %d and %s; a hold is %s", requests, nano, c.requests, want, bound)
			}
		})
	}
}

func limitAnswer(status int) func(*testing.T, *proxy, request) {
	return func(t *testing.T, p *proxy, r request) {
		t.Helper()
		if got := p.do(t, r); got.status != status {
			t.Errorf("%d, want %d: %s", got.status, status, got.body)
		}
	}
}

func free(*testing.T, *account) string { return "0" }

// billed is what the request's event says that it has cost, to the nanodollar.
func billed(t *testing.T, a *account) string {
	t.Helper()
	ev := a.awaitRequests(t, 1)[0]
	in, out := ev.tokens()
	if ev.Estimated || out != 40 || ev.CostNanoUSD == nil || *ev.CostNanoUSD != costOf(in, out) {
		t.Errorf("%+v", ev)
	}
	return usd(costOf(in, out))
}

// TestRefusalsGiveBack: a request that one limit refuses has used nothing of the
// others, and one without quota never comes to the provider.
func TestRefusalsGiveBack(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	a := p.account(t, object{"max_requests": 2, "budget_usd": "1", "rpm": 1})
	ask := openAIDialect.atMost(a.token, "m", answerTokens, false)
	code := func(status int, code string) {
		t.Helper()
		openAIDialect.refused(t, p.do(t, ask), status, code)
	}
	limitAnswer(200)(t, p, ask)
	_, spent := a.settled(t)
	for range 3 {
		code(http.StatusTooManyRequests, "rate_limit_exceeded")
	}
	if requests, nano := a.settled(t); requests != 1 || nano != spent {
		t.Errorf("%d requests and %s USD are used, want 1 and %s", requests, nano, spent)
	}
	a.patch(t, object{"rpm": nil})
	limitAnswer(200)(t, p, ask)
	a.settled(t)
	before := sim.count()
	code(http.StatusTooManyRequests, "quota_exceeded")
	sim.untouched(t, before)
	a.patch(t, object{"max_requests": nil, "budget_usd": "0.0000001"})
	code(http.StatusPaymentRequired, "budget_hold_too_large")
	sim.untouched(t, before)
	a.patch(t, object{"budget_usd": nil})
	limitAnswer(200)(t, p, ask)
}

// TestHolds reads from refusals what would have been held.
func TestHolds(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	a := p.account(t, object{"budget_usd": "0.000000001"})
	picture := func(r request) request {
		r.body = strings.Replace(r.body, `"hello"`, `[{"type":"text","text":"hello"},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]`, 1)
		return r
	}
	several := openAIDialect.atMost(a.token, "m", 7, false)
	several.body = `{"n":3,` + several.body[1:]
	for name, c := range map[string]struct {
		r    request
		hold int64 // 0: nobody knows
	}{
		"as asked for":          {openAIDialect.atMost(a.token, "m", 7, false), boundOf(openAIDialect.atMost("", "m", 7, false), 7)},
		"several answers":       {several, boundOf(several, 21)},
		"the model's maximum":   {chat(a.token, "m", false), boundOf(chat("", "m", false), 100)},
		"Gemini's maximum":      {geminiDialect.ask("gemini", a.token, "m", false), boundOf(geminiDialect.ask("", "", "m", false), 100)},
		"no maximum":            {chat(a.token, "mute", false), 0},
		"a picture":             {picture(openAIDialect.atMost(a.token, "m", 7, false)), costOf(1000, 7)},
		"a picture, no window":  {picture(openAIDialect.atMost(a.token, "mute", 7, false)), 0},
		"more than the window":  {request{path: "/v1/chat/completions", token: a.token, body: `{"model":"m","max_tokens":7,"messages":[{"role":"user","content":"` + strings.Repeat("a", 5000) + `"}]}`}, costOf(1000, 7)},
		"what lies elsewhere":   {request{path: "/v1/responses", token: a.token, body: `{"model":"m","max_output_tokens":7,"input":"hello","previous_response_id":"resp_1"}`}, costOf(1000, 7)},
		"escaped member's name": {picture(request{path: "/v1/chat/completions", token: a.token, body: strings.Replace(openAIDialect.atMost("", "m", 7, false).body, `"content"`, `"\u0063ontent"`, 1)}), costOf(1000, 7)},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.do(t, c.r)
			openAIOr(c.r).refused(t, got, http.StatusPaymentRequired, "budget_hold_too_large")
			if hold := metadata(t, got.body)["hold_usd"]; c.hold != 0 && hold != usd(c.hold) || c.hold == 0 && hold != "" {
				t.Errorf("a hold of %q, want %s", hold, usd(c.hold))
			}
		})
	}
	sim.untouched(t, 0)
}

func openAIOr(r request) dialect {
	if strings.HasPrefix(r.path, "/gemini") {
		return geminiDialect
	}
	return openAIDialect
}

// TestChangedLimits: the next request goes by what a limit is now, and what was used
// stays used.
func TestChangedLimits(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	for name, set := range map[string]func(a *account, limit any){
		"token's rate":    func(a *account, limit any) { a.patch(t, object{"rpm": limit}) },
		"project's rate":  func(a *account, limit any) { a.patchProject(t, object{"rpm": limit}) },
		"token's quota":   func(a *account, limit any) { a.patch(t, object{"max_requests": limit}) },
		"project's quota": func(a *account, limit any) { a.patchProject(t, object{"max_requests": limit}) },
	} {
		t.Run(name, func(t *testing.T) {
			a := p.account(t)
			ask := chat(a.token, "m", false)
			pass := func(n int) {
				t.Helper()
				for range n {
					limitAnswer(200)(t, p, ask)
					a.settled(t)
				}
				if got := p.do(t, ask); got.status != http.StatusTooManyRequests {
					t.Errorf("after %d: %d %s", n, got.status, got.body)
				}
			}
			set(a, 1)
			pass(1)
			set(a, 3)
			pass(2)
			set(a, 2)
			pass(0)
			set(a, 4)
			pass(1)
			set(a, nil)
			limitAnswer(200)(t, p, ask)
		})
	}
	t.Run("budget", func(t *testing.T) {
		a := p.account(t)
		ask := openAIDialect.atMost(a.token, "m", answerTokens, false)
		bound := boundOf(ask, answerTokens)
		a.patch(t, object{"budget_usd": usd(bound)})
		limitAnswer(200)(t, p, ask)
		_, spent := a.settled(t)
		openAIDialect.refused(t, p.do(t, ask), http.StatusPaymentRequired, "budget_exceeded")
		dollars, err := strconv.ParseFloat(spent, 64)
		if err != nil || dollars <= 0 {
			t.Fatalf("spent %q: %v", spent, err)
		}
		a.patch(t, object{"budget_usd": usd(bound + int64(dollars*1e9+0.5))})
		limitAnswer(200)(t, p, ask)
		a.settled(t)
		a.patch(t, object{"budget_usd": usd(bound)})
		openAIDialect.refused(t, p.do(t, ask), http.StatusPaymentRequired, "budget_exceeded")
		a.patch(t, object{"budget_usd": nil})
		limitAnswer(200)(t, p, ask)
	})
	t.Run("rotation", func(t *testing.T) {
		a := p.account(t, object{"max_requests": 1, "rpm": 100})
		limitAnswer(200)(t, p, chat(a.token, "m", false))
		made := p.manage(t, "POST", "tokens/"+a.tokenID+"/rotate", object{})
		a.tokenID, a.token = made["id"].(string), made["token"].(string)
		limitAnswer(200)(t, p, chat(a.token, "m", false))
		a.settled(t)
		openAIDialect.refused(t, p.do(t, chat(a.token, "m", false)), http.StatusTooManyRequests, "quota_exceeded")
	})
}
