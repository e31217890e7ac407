package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// boundPrices are a dollar for a million tokens of input and two for output, of models
// that take 10,000 and give 1,000; "draws" gives pictures at thirty.
func boundPrices(t testing.TB) *price.Table {
	t.Helper()
	const rate = `"input":"1","cache_read":"1","output":"2","context_window":10000,"max_output_tokens":1000`
	overrides, err := price.ParseOverrides(strings.NewReader(`{
		"openai":{"m":{` + rate + `}}, "mistral":{"m":{` + rate + `}},
		"anthropic":{"m":{` + rate + `,"cache_write_5m":"1","cache_write_1h":"1"}},
		"gemini":{"m":{` + rate + `},"draws":{` + rate + `,"output_image":"30"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	table, err := price.New(overrides)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestUpperBound: what is held of a budget while the provider works covers what that
// may bill.
func TestUpperBound(t *testing.T) {
	const (
		in, out = 1000, 2000 // nanodollars a token
		window  = 10_000     // tokens
		most    = 1000
		tools   = `,"tools":[{"name":"f","input_schema":{}}]`
	)
	messages := func(more string) string { return `{"model":"m","max_tokens":10` + more + `,"messages":[]}` }
	for name, tc := range map[string]struct {
		kind, path, body string
		header           string
		input, output    int64 // tokens that are held; input 0: the body's bytes
		rate             int64 // of output; 0: out
		code             string
	}{
		"text":                     {kind: "openai", path: chatPath, body: messages(""), output: 10},
		"what lies there":          {kind: "openai", path: "/v1/responses", body: `{"model":"m","max_output_tokens":16,"input":[{"type":"item_reference","id":"msg_1"}]}`, input: window, output: 16},
		"a conversation":           {kind: "mistral", path: "/v1/conversations", body: `{"model":"m","inputs":"write a book"}`, output: most},
		"a conversation, limited":  {kind: "mistral", path: "/v1/conversations", body: `{"model":"m","inputs":"x","max_tokens":1}`, output: most}, // which is no member of it
		"a conversation goes on":   {kind: "mistral", path: "/v1/conversations/c1", body: `{"model":"m","inputs":"go on"}`, input: window, output: most},
		"pictures as text":         {kind: "gemini", path: "/gemini/v1beta/models/draws:generateContent", body: `{"contents":[],"generationConfig":{"maxOutputTokens":500}}`, output: 500, rate: 30_000},
		"Anthropic's tier":         {kind: "anthropic", path: "/v1/messages", body: messages(`,"service_tier":"standard_only"`), output: 10},
		"Anthropic's tools":        {kind: "anthropic", path: "/v1/messages", body: messages(tools), input: int64(len(messages(tools))) + 4096, output: 10},
		"OpenAI's tools":           {kind: "openai", path: chatPath, body: messages(`,"tools":[{"type":"function","function":{"name":"f"}}]`), output: 10},
		"an ordinary window":       {kind: "anthropic", path: "/v1/messages", body: messages(`,"container":"c"`), input: window, output: 10},
		"a long window":            {kind: "anthropic", path: "/v1/messages", body: messages(`,"container":"c"`), header: "Anthropic-Beta: other-1, context-1m-2025-08-07", input: 1_000_000, output: 10},
		"a long window, elsewhere": {kind: "openai", path: "/v1/responses", body: `{"model":"m","max_output_tokens":16,"previous_response_id":"r"}`, header: "Anthropic-Beta: context-1m-2025-08-07", input: window, output: 16},
		"the usual speed":          {kind: "anthropic", path: "/v1/messages", body: messages(`,"speed":"standard","inference_geo":"global"`), output: 10},
		"a dearer speed":           {kind: "anthropic", path: "/v1/messages", body: messages(`,"speed":"fast"`), code: "endpoint_not_budgetable"},
		"a dearer place":           {kind: "anthropic", path: "/v1/messages", body: messages(`,"inference_geo":"us"`), code: "endpoint_not_budgetable"},
		"an unknown tier":          {kind: "openai", path: chatPath, body: messages(`,"service_tier":"scale"`), code: "model_not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			own, l := project.Limits{BudgetUSD: dollars("100")}, newLedger(t)
			r := newRig(t, setup{
				provider: func(c *provider.Config) { c.Name = tc.kind },
				token:    func(tk *token.Token) { tk.Policy.Limits, tk.Version = own, 1 },
				gateway:  func(c *gateway.Config) { c.Limits.Ledger, c.Prices = l, boundPrices(t) },
			})
			var held int64
			r.upstream.answer = func(*http.Request) (*http.Response, error) {
				list, err := l.Balances(t.Context(), ledger.Limits(nil, ledger.Token, r.tokenID, 1, &own))
				if err != nil {
					return nil, err
				}
				held = list[0].Held
				return reply(http.StatusOK, "application/json", "{}"), nil
			}
			req := r.request(http.MethodPost, tc.path, tc.body)
			if tc.header != "" {
				req = r.request(http.MethodPost, tc.path, tc.body, tc.header)
			}
			a := r.do(req)
			if tc.code != "" {
				if a.rec.Code != tc.code || len(r.upstream.requests()) != 0 {
					t.Errorf("%d %s, want %s", a.Code, a.Body, tc.code)
				}
				return
			}
			input, rate := tc.input, tc.rate
			if input == 0 {
				input = int64(len(tc.body))
			}
			if rate == 0 {
				rate = out
			}
			if want := input*in + tc.output*rate; a.Code != http.StatusOK || held != want {
				t.Errorf("%d %s, %d nanodollars were held, want %d", a.Code, a.Body, held, want)
			}
		})
	}
}
