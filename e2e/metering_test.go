package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// logged is a request's event, as the management API tells it.
type logged struct {
	ID              string    `json:"id"`
	RequestID       string    `json:"request_id"`
	Time            time.Time `json:"time"`
	TokenID         string    `json:"token_id"`
	ProjectID       string    `json:"project_id"`
	Provider        string    `json:"provider"`
	Endpoint        string    `json:"endpoint"`
	Model           string    `json:"model"`
	Status          int       `json:"status"`
	Outcome         string    `json:"outcome"`
	Stream          bool      `json:"stream"`
	InputTokens     *int64    `json:"input_tokens"`
	OutputTokens    *int64    `json:"output_tokens"`
	ReasoningTokens *int64    `json:"reasoning_tokens"`
	CostNanoUSD     *int64    `json:"cost_nano_usd"`
	Estimated       bool      `json:"estimated"`
	UsageSource     string    `json:"usage_source"`
	EndUser         string    `json:"end_user"`
}

func (l *logged) tokens() (in, out int64) {
	if l.InputTokens != nil {
		in = *l.InputTokens
	}
	if l.OutputTokens != nil {
		out = *l.OutputTokens
	}
	return in, out
}

// requests lists all events that a query selects, newest first, page by page.
func (p *proxy) requests(t *testing.T, query string) []logged {
	t.Helper()
	var all []logged
	for next := "/manage/requests?limit=1000&" + query; next != ""; {
		req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, p.url+next, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+managementToken)
		resp, err := p.client(h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var page []logged
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", next, resp.StatusCode, err)
		}
		all = append(all, page...)
		next = ""
		if link, _, ok := strings.Cut(resp.Header.Get("Link"), ">; rel=\"next\""); ok {
			next = strings.TrimPrefix(strings.TrimPrefix(link, "<"), p.url)
		}
	}
	return all
}

// awaitRequests waits until there are n events of a token.
func (a *account) awaitRequests(t *testing.T, n int) []logged {
	t.Helper()
	var all []logged
	eventually(t, fmt.Sprintf("%d events", n), func() bool {
		all = a.p.requests(t, "token_id="+a.tokenID)
		return len(all) >= n
	})
	if len(all) != n {
		t.Fatalf("%d events, want %d", len(all), n)
	}
	return all
}

// usageTotal is what GET /manage/usage sums up for a token.
func (a *account) usageTotal(t *testing.T) (requests, in, out int64, cost *big.Rat) {
	t.Helper()
	total := a.p.manage(t, "GET", "usage?group_by=token&token_id="+a.tokenID, nil)["total"].(object)
	cost, ok := new(big.Rat).SetString(total["cost_usd"].(string))
	if !ok {
		t.Fatalf("cost %v", total["cost_usd"])
	}
	n := func(name string) int64 { return int64(total[name].(float64)) }
	return n("requests"), n("input_tokens"), n("output_tokens"), cost
}

// priced is a site whose models cost 1 USD in and 10 USD out a million tokens.
func priced(t *testing.T, s site) site {
	t.Helper()
	file := filepath.Join(t.TempDir(), "prices.json")
	const rate = `{"*":{"input":"1","output":"10"}}`
	if err := os.WriteFile(file, []byte(`{"openai":`+rate+`,"anthropic":`+rate+`,"gemini":`+rate+`}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.app += "\t\tprices " + file + "\n"
	return s
}

func costOf(in, out int64) int64 { return 1000*in + 10_000*out }

// TestBooksAgree sends requests of every kind and compares three counts: the
// provider's own, the events', and the sums'.
func TestBooksAgree(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, priced(t, against(sim)))
	a := p.account(t)
	before := sim.Stats()
	kinds := []struct{ path, body string }{
		{"/v1/chat/completions", chatBody("gpt-4o", false)},
		{"/v1/chat/completions", chatBody("gpt-4o", true)},
		{"/v1/chat/completions", `{"model":"o3-reason","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hello"}]}`},
		{"/v1/completions", `{"model":"davinci","prompt":"hello there","stream":true}`},
		{"/v1/responses", `{"model":"gpt-4o","input":"hello"}`},
		{"/v1/responses", `{"model":"gpt-4o","input":"hello","stream":true}`},
		{"/v1/embeddings", `{"model":"text-embedding-3-small","input":"hello"}`},
		{"/anthropic/v1/messages", messagesBody("claude-sonnet-4-5", false)},
		{"/anthropic/v1/messages", messagesBody("claude-sonnet-4-5", true)},
		{"/gemini/v1beta/models/gemini-2.5-pro:generateContent", `{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}`},
		{"/gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", `{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}`},
		{"/gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent", `{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}`},
	}
	ids := map[string]string{}
	for i, k := range kinds {
		r := request{path: k.path, body: k.body, token: a.token, proto: allProtocols[i%len(allProtocols)], header: http.Header{}}
		if strings.HasPrefix(k.path, "/anthropic") {
			r.header.Set("Anthropic-Version", "2023-06-01")
		}
		got := p.do(t, r)
		if got.status != 200 || got.err != nil {
			t.Fatalf("%s: %d %s, %v", k.path, got.status, got.body, got.err)
		}
		if asked := strings.Contains(k.body, "include_usage"); strings.Contains(k.path, "chat/completions") && strings.Contains(k.body, `"stream":true`) && strings.Contains(got.body, `"choices":[]`) != asked {
			t.Errorf("%s: the client asked for usage: %t, and got %s", k.path, asked, got.body)
		}
		ids[got.header.Get("X-LLM-Proxy-Request-Id")] = k.path
	}
	events := a.awaitRequests(t, len(kinds))
	var in, out int64
	for _, ev := range events {
		i, o := ev.tokens()
		in, out = in+i, out+o
		if ids[ev.RequestID] == "" || ev.ID != ev.RequestID {
			t.Errorf("%s is nobody's request", ev.RequestID)
		}
		if ev.Estimated || ev.UsageSource != "provider" || ev.CostNanoUSD == nil || *ev.CostNanoUSD != costOf(i, o) || i == 0 {
			t.Errorf("%s: %+v", ev.Endpoint, ev)
		}
	}
	after := sim.Stats()
	if p, c := after.PromptTokens-before.PromptTokens, after.CompletionTokens-before.CompletionTokens; in != p || out != c {
		t.Errorf("events: %d in, %d out; the provider: %d, %d", in, out, p, c)
	}
	n, sumIn, sumOut, cost := a.usageTotal(t)
	if n != int64(len(kinds)) || sumIn != in || sumOut != out || cost.Cmp(big.NewRat(costOf(in, out), 1e9)) != 0 {
		t.Errorf("sums: %d requests, %d in, %d out, %s USD; events: %d, %d", n, sumIn, sumOut, cost.FloatString(9), in, out)
	}
}

// TestDepartureIsMetered has clients leave in the middle of their streams.
func TestDepartureIsMetered(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, priced(t, against(sim)))
	for _, d := range allDialects {
		for _, proto := range allProtocols {
			t.Run(fmt.Sprintf("%s/%s", d, proto), func(t *testing.T) {
				t.Parallel()
				a := p.account(t)
				r := d.ask(string(d), a.token, "sim-chunks-50+silent-1h", true)
				r.proto = proto
				stream := p.open(t, bounded(t), r)
				if _, err := io.ReadFull(stream.Body, make([]byte, 64)); err != nil {
					t.Fatal(err)
				}
				left := time.Now()
				stream.Body.Close()
				ev := a.awaitRequests(t, 1)[0]
				t.Logf("recorded %v after the client left", time.Since(left))
				in, out := ev.tokens()
				if ev.Outcome != "client_cancelled" || !ev.Estimated || in == 0 || ev.CostNanoUSD == nil || *ev.CostNanoUSD != costOf(in, out) {
					t.Errorf("%+v", ev)
				}
			})
		}
	}
	cancelled := len(allDialects) * len(allProtocols)
	t.Cleanup(func() {
		eventually(t, "the provider's streams end", func() bool { return sim.Stats().CancelledStreams == int64(cancelled) })
	})
}
