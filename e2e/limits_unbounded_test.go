package e2e

import (
	"net/http"
	"testing"

	"github.com/coder/websocket"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// unbounded are requests of which nobody can tell what they will cost at most.
var unbounded = []struct {
	name string
	d    dialect
	path string
	body string
}{
	{"batch", openAIDialect, "/v1/batches", `{"input_file_id":"file-1","endpoint":"/v1/responses","completion_window":"24h"}`},
	{"fine-tuning", openAIDialect, "/v1/fine_tuning/jobs", `{"model":"m","training_file":"file-1"}`},
	{"background", openAIDialect, "/v1/responses", `{"model":"m","input":"hello","background":true,"max_output_tokens":9}`},
	{"hosted tool", openAIDialect, "/v1/responses", `{"model":"m","input":"hello","max_output_tokens":9,"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}`},
	{"web search", openAIDialect, "/v1/chat/completions", `{"model":"m","max_tokens":9,"web_search_options":{},"messages":[{"role":"user","content":"hello"}]}`},
	{"message batch", anthropicDialect, "/anthropic/v1/messages/batches", `{"requests":[]}`},
	{"code execution", anthropicDialect, "/anthropic/v1/messages", `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hello"}],"tools":[{"type":"code_execution_20250522","name":"code_execution"}]}`},
	{"grounding", geminiDialect, "/gemini/v1beta/models/m:generateContent", `{"contents":[{"role":"user","parts":[{"text":"hello"}]}],"tools":[{"googleSearch":{}}]}`},
}

// TestUnboundedWork: with a budget it is refused, unless the project lets it through.
func TestUnboundedWork(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	a := p.account(t, object{"budget_usd": "1000"})
	ask := func(i int) request {
		u := unbounded[i]
		r := request{path: u.path, body: u.body, token: a.token, proto: allProtocols[i%len(allProtocols)]}
		if u.d == anthropicDialect {
			r.header = http.Header{"Anthropic-Version": {"2023-06-01"}}
		}
		return r
	}
	for i, u := range unbounded {
		got := p.do(t, ask(i))
		u.d.refused(t, got, http.StatusForbidden, "endpoint_not_budgetable")
		if got.header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: X-Should-Retry %q", u.name, got.header.Get("X-Should-Retry"))
		}
	}
	options := func() *websocket.DialOptions {
		return &websocket.DialOptions{HTTPClient: p.client(h1), HTTPHeader: bearer(a.token)}
	}
	if c, resp, err := websocket.Dial(bounded(t), p.url+realtimePath, options()); err == nil {
		c.CloseNow()
		t.Error("a session was let through")
	} else if resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a session: %v, %v", resp, err)
	}
	sim.untouched(t, 0)

	a.patchProject(t, object{"allow_unbounded": true})
	for i, u := range unbounded {
		before := sim.count()
		if got := p.do(t, ask(i)); sim.count() != before+1 {
			t.Errorf("%s: %d %s", u.name, got.status, got.body)
		}
	}
	p.socket(t, bounded(t), realtimePath, *options()).CloseNow()
}

// TestUnpricedModels: with a budget they are refused, unless the project lets them
// through, and then cost it nothing.
func TestUnpricedModels(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	a := p.account(t, object{"budget_usd": "1"})
	for _, d := range allDialects {
		d.refused(t, p.do(t, d.atMost(a.token, "nobodys-model", 9, false)), http.StatusForbidden, "model_not_allowed")
	}
	sim.untouched(t, 0)
	a.patchProject(t, object{"allow_unpriced": true})
	for _, d := range allDialects {
		if got := p.do(t, d.atMost(a.token, "nobodys-model", 9, false)); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", d, got.status, got.body)
		}
	}
	for _, ev := range a.awaitRequests(t, 2*len(allDialects)) {
		if ev.Status == http.StatusOK && ev.CostNanoUSD != nil {
			t.Errorf("%+v", ev)
		}
	}
	eventually(t, "nothing is held", func() bool { return p.balance(t, "tokens/"+a.tokenID, "budget_usd")["held"] == "0" })
	if b := p.balance(t, "tokens/"+a.tokenID, "budget_usd"); b["used"] != "0" || b["available"] != "1" {
		t.Errorf("%v", b)
	}
}
