package e2e

import (
	"bufio"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// metricLabels are all metrics, with their labels besides those of histograms.
var metricLabels = map[string]string{
	"llm_proxy_requests_total":             "provider model status outcome",
	"llm_proxy_request_duration_seconds":   "provider model",
	"llm_proxy_overhead_seconds":           "provider",
	"llm_proxy_time_to_first_byte_seconds": "provider model",
	"llm_proxy_tokens_total":               "provider model type",
	"llm_proxy_cost_usd_total":             "provider model",
	"llm_proxy_upstream_attempts_total":    "provider outcome",
	"llm_proxy_limit_refusals_total":       "limit",
	"llm_proxy_cache_requests_total":       "result",
	"llm_proxy_limits_shared":              "",
	"llm_proxy_overshoot_usd_total":        "",
	"llm_proxy_inflight_requests":          "",
	"llm_proxy_events_uncommitted":         "",
	"llm_proxy_events_published":           "",
	"llm_proxy_events_dropped":             "",
	"llm_proxy_events_delivered":           "sink",
	"llm_proxy_events_failed":              "sink",
	"llm_proxy_events_pending":             "sink",
	"llm_proxy_event_lag_seconds":          "sink",
	"llm_proxy_audit_dropped_total":        "",
}

// scrape is what /metrics has of ours, by name.
type scrape map[string]*dto.MetricFamily

func parseMetrics(t *testing.T, text string) scrape {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "llm_proxy_") })
	return families
}

// scrape asks as Prometheus would, through the directive.
func (p *proxy) scrape(t *testing.T) scrape {
	t.Helper()
	got := p.do(t, request{path: "/metrics"})
	if got.status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", got.status, got.body)
	}
	return parseMetrics(t, got.body)
}

// sum adds up the series that have the labels, given as name, value and so on: of
// histograms, how much was observed.
func (s scrape) sum(name string, labels ...string) float64 {
	family := s[name]
	if family == nil {
		return math.NaN()
	}
	total := 0.0
	for _, m := range family.Metric {
		if !hasLabels(m, labels) {
			continue
		}
		switch {
		case m.Counter != nil:
			total += m.Counter.GetValue()
		case m.Gauge != nil:
			total += m.Gauge.GetValue()
		case m.Untyped != nil:
			total += m.Untyped.GetValue()
		default:
			total += float64(m.Histogram.GetSampleCount())
		}
	}
	return total
}

func hasLabels(m *dto.Metric, labels []string) bool {
	for pair := range slices.Chunk(labels, 2) {
		if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == pair[0] && l.GetValue() == pair[1] }) {
			return false
		}
	}
	return true
}

// observedSite counts, delivers to a file and has a price for one model.
func observedSite(t *testing.T, sim *provider) site {
	t.Helper()
	prices := filepath.Join(t.TempDir(), "prices.json")
	if err := os.WriteFile(prices, []byte(`{"openai": {"gpt-4o": {"input": "2", "cache_read": "1", "output": "8"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := against(sim)
	s.app = "prices " + prices + "\nevents {\nsink file {\nlinger 10ms\npath {dir}/events.jsonl\n}\n}"
	s.routes = "metrics /metrics\n\tllm_proxy_admin\n\tllm_proxy"
	return s
}

// TestMetrics holds every metric against what was sent.
func TestMetrics(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := observedSite(t, sim)
	p := start(t, s)
	a := p.account(t)
	if missing := p.scrape(t); len(missing) == 0 || missing.sum("llm_proxy_inflight_requests") != 0 {
		t.Errorf("before any request: %v", sortedKeys(missing))
	}

	var input, output float64 // of gpt-4o, as its client was told
	for range 3 {
		r := chat(a.token, "gpt-4o", false)
		r.body = strings.Replace(r.body, "{", `{"user":"jane@example.com",`, 1)
		got := p.do(t, r)
		var answer struct {
			Usage struct {
				Prompt     float64 `json:"prompt_tokens"`
				Completion float64 `json:"completion_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil || answer.Usage.Completion == 0 {
			t.Fatalf("%v: %d %s", err, got.status, got.body)
		}
		input, output = input+answer.Usage.Prompt, output+answer.Usage.Completion
	}
	_, limited := a.mint(t, object{"rpm": 0})
	anthropic := func(body string) request {
		return request{path: "/anthropic/v1/messages", token: a.token, header: http.Header{"Anthropic-Version": {"2023-06-01"}}, body: body}
	}
	for _, c := range []struct {
		request
		status int
	}{
		{chat(a.token, "gpt-4o-mini", true), 200},
		{request{path: "/v1/embeddings", token: a.token, body: `{"model":"text-embedding-3-small","input":"hello"}`}, 200},
		{anthropic(messagesBody("claude-sonnet-4-5", true)), 200},
		{request{path: "/gemini/v1beta/models/gemini-2.5-flash:generateContent", token: a.token, body: generateBody}, 200},
		{chat(a.token, "our-"+a.token, false), 200},                                             // has no price
		{chat(a.token, "sim-error-500", false), 500},                                            // nor has this
		{anthropic(`{"model":"claude-2-` + a.tokenID + `","max_tokens":5,"messages":[]}`), 400}, // looks as if it had one
		{chat("sk-wt-nobody", "gpt-4o", false), 401},
		{chat(limited, "o3", false), 429},
	} {
		if got := p.do(t, c.request); got.status != c.status {
			t.Fatalf("%s: %d, want %d: %s", c.path, got.status, c.status, got.body)
		}
	}
	const forwarded, authenticated, all = 10, 11, 12

	var m scrape
	eventually(t, "everything is counted and delivered", func() bool {
		m = p.scrape(t)
		return m.sum("llm_proxy_requests_total") >= all && m.sum("llm_proxy_events_delivered") >= authenticated &&
			m.sum("llm_proxy_events_pending") == 0 && m.sum("llm_proxy_events_uncommitted") == 0
	})
	bill, stats := p.bill(t), sim.Stats()
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{all, "llm_proxy_requests_total", nil},
		{3, "llm_proxy_requests_total", []string{"provider", "openai", "model", "gpt-4o", "status", "200", "outcome", "ok"}},
		{1, "llm_proxy_requests_total", []string{"model", "claude-sonnet-4-5", "provider", "anthropic"}},
		{1, "llm_proxy_requests_total", []string{"model", "gemini-2.5-flash", "provider", "gemini"}},
		{1, "llm_proxy_requests_total", []string{"model", "other", "status", "200", "outcome", "ok"}},
		{1, "llm_proxy_requests_total", []string{"model", "other", "status", "500", "outcome", "upstream_error"}},
		{1, "llm_proxy_requests_total", []string{"model", "other", "status", "400", "outcome", "upstream_error", "provider", "anthropic"}},
		{1, "llm_proxy_requests_total", []string{"model", "", "status", "401", "outcome", "refused"}},
		{all, "llm_proxy_request_duration_seconds", nil},
		{3, "llm_proxy_request_duration_seconds", []string{"provider", "openai", "model", "gpt-4o"}},
		{forwarded, "llm_proxy_overhead_seconds", nil},
		{forwarded, "llm_proxy_time_to_first_byte_seconds", nil},
		{forwarded, "llm_proxy_upstream_attempts_total", nil},
		{2, "llm_proxy_upstream_attempts_total", []string{"outcome", "upstream_error"}},
		{input, "llm_proxy_tokens_total", []string{"provider", "openai", "model", "gpt-4o", "type", "input"}},
		{output, "llm_proxy_tokens_total", []string{"provider", "openai", "model", "gpt-4o", "type", "output"}},
		{float64(stats.PromptTokens), "llm_proxy_tokens_total", []string{"type", "input"}},
		{float64(stats.CompletionTokens), "llm_proxy_tokens_total", []string{"type", "output"}},
		{(2*input + 8*output) / 1e6, "llm_proxy_cost_usd_total", []string{"provider", "openai", "model", "gpt-4o"}},
		{bill, "llm_proxy_cost_usd_total", nil},
		{0, "llm_proxy_inflight_requests", nil},
		{0, "llm_proxy_events_uncommitted", nil},
		{authenticated, "llm_proxy_events_published", nil},
		{authenticated, "llm_proxy_events_delivered", []string{"sink", "file"}},
		{0, "llm_proxy_events_failed", []string{"sink", "file"}},
		{0, "llm_proxy_event_lag_seconds", []string{"sink", "file"}},
		{0, "llm_proxy_events_dropped", nil},
		{0, "llm_proxy_audit_dropped_total", nil},
		{1, "llm_proxy_limit_refusals_total", nil},
		{1, "llm_proxy_limit_refusals_total", []string{"limit", "requests"}},
		{1, "llm_proxy_limits_shared", nil},
		{0, "llm_proxy_overshoot_usd_total", nil},
	} {
		if got := m.sum(c.name, c.labels...); !(math.Abs(got-c.want) < 1e-9) {
			t.Errorf("%s%v: %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	m.checkLabels(t, a.token, a.tokenID, a.projectID, a.key, "jane", "sk-wt")
	if admin := parseMetrics(t, p.admin("/metrics")); !slices.Equal(sortedKeys(admin), sortedKeys(m)) {
		t.Errorf("the admin endpoint has %v", sortedKeys(admin))
	}
}

// bill is the cost of all events that the file has.
func (p *proxy) bill(t *testing.T) (usd float64) {
	t.Helper()
	f, err := os.Open(filepath.Join(p.dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var event struct {
			Cost float64 `json:"cost_nano_usd"`
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		usd += event.Cost / 1e9
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return usd
}

// checkLabels: there is every metric and no other, with its labels and no others,
// and no value holds what must not be there.
func (s scrape) checkLabels(t *testing.T, forbidden ...string) {
	t.Helper()
	if got, want := sortedKeys(s), sortedKeys(metricLabels); !slices.Equal(got, want) {
		t.Errorf("metrics %v\nwant %v", got, want)
	}
	for name, family := range s {
		allowed := strings.Fields(metricLabels[name])
		for _, m := range family.Metric {
			if len(m.Label) != len(allowed) {
				t.Errorf("%s has the labels %v, want %v", name, m.Label, allowed)
			}
			for _, l := range m.Label {
				if !slices.Contains(allowed, l.GetName()) {
					t.Errorf("%s has the label %s", name, l.GetName())
				}
				for _, word := range forbidden {
					if strings.Contains(l.GetValue(), word) {
						t.Errorf("%s has %s=%q", name, l.GetName(), l.GetValue())
					}
				}
			}
		}
	}
}

// TestMetricsSurviveReload: the counters go on, whatever the reload changes, and a
// request under way is counted when it ends.
func TestMetricsSurviveReload(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := observedSite(t, sim)
	p := start(t, s)
	a := p.account(t)
	if got := p.do(t, chat(a.token, "gpt-4o", false)); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	release := sim.hold(t, a.key)
	stream := p.open(t, bounded(t), request{path: "/v1/chat/completions", token: a.token, body: chatBody("gpt-4o", true), proto: h2})
	eventually(t, "one request is counted, one is under way", func() bool {
		m := p.scrape(t)
		return m.sum("llm_proxy_requests_total") == 1 && m.sum("llm_proxy_inflight_requests") == 1
	})

	same := s
	same.options = map[string]string{"openai": "max_idle_conns_per_host 7"}
	p.reload(same)
	if m := p.scrape(t); m.sum("llm_proxy_requests_total") != 1 || m.sum("llm_proxy_inflight_requests") != 1 || m.sum("llm_proxy_events_published") != 1 {
		t.Errorf("after a reload: %v, %v", m["llm_proxy_requests_total"], m["llm_proxy_events_published"])
	}
	if err := p.load(site{caddyfile: strings.Replace(s.render(p), "llm_proxy_admin", "llm_proxy_admin nonsense", 1)}); err == nil {
		t.Fatal("a mistake is taken")
	}
	release()
	if _, err := bufio.NewReader(stream.Body).WriteTo(new(strings.Builder)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream of the old configuration is counted", func() bool {
		m := p.scrape(t)
		return m.sum("llm_proxy_requests_total", "model", "gpt-4o") == 2 && m.sum("llm_proxy_inflight_requests") == 0
	})

	other := same
	other.database = "{dir}/other/llm-proxy.db"
	p.reload(other)
	eventually(t, "the old database is closed", func() bool { return p.scrape(t).sum("llm_proxy_events_delivered", "sink", "file") == 0 })
	if m := p.scrape(t); m.sum("llm_proxy_requests_total") != 2 || m.sum("llm_proxy_events_published") != 2 {
		t.Errorf("with another database: %v, %v", m["llm_proxy_requests_total"], m["llm_proxy_events_published"])
	}
	if got := p.do(t, chat(a.token, "gpt-4o", false)); got.status != http.StatusUnauthorized {
		t.Fatalf("%d %s", got.status, got.body)
	}
	eventually(t, "a refusal is counted", func() bool { return p.scrape(t).sum("llm_proxy_requests_total", "outcome", "refused") == 1 })
}
