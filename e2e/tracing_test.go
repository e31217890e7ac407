package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// spanCollector receives OTLP over HTTP.
type spanCollector struct {
	url string

	mu    sync.Mutex
	spans []*trace.Span
}

func newSpanCollector(t *testing.T) *spanCollector {
	t.Helper()
	c := new(spanCollector)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var export collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &export)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("the collector got %s %s: %v", r.Method, r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range export.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// env has Caddy's tracing export to the collector.
func (c *spanCollector) env() []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=20"}
}

// pair waits for the two spans of a trace: Caddy's, and ours below it.
func (c *spanCollector) pair(t *testing.T, traceID string) (parent, child *trace.Span) {
	t.Helper()
	var found []*trace.Span
	eventually(t, "two spans of trace "+traceID, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		found = nil
		for _, s := range c.spans {
			if fmt.Sprintf("%x", s.TraceId) == traceID {
				found = append(found, s)
			}
		}
		return len(found) >= 2
	})
	if len(found) != 2 {
		t.Fatalf("%d spans: %v", len(found), found)
	}
	parent, child = found[0], found[1]
	if parent.Kind != trace.Span_SPAN_KIND_SERVER {
		parent, child = child, parent
	}
	return parent, child
}

func (c *spanCollector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.spans)
}

func spanAttributes(s *trace.Span) map[string]any {
	m := make(map[string]any)
	for _, a := range s.Attributes {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			m[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[a.Key] = v.IntValue
		case *common.AnyValue_DoubleValue:
			m[a.Key] = v.DoubleValue
		case *common.AnyValue_BoolValue:
			m[a.Key] = v.BoolValue
		}
	}
	return m
}

// tracedSite traces all but /openrouter.
func tracedSite(sim *provider) site {
	s := against(sim)
	s.providers["openrouter"] = sim.url + "/v1"
	s.routes = "@traced not path /openrouter/*\n\ttracing @traced {\n\tspan site\n\t}\n\tllm_proxy_admin\n\tllm_proxy"
	return s
}

const clientSpan = "b7ad6b7169203331"

// traceHeader has a client that is part of the nth trace.
func traceHeader(n int) (id string, h http.Header) {
	id = fmt.Sprintf("0af7651916cd43dd8448eb21%08x", n)
	return id, http.Header{
		"Traceparent": {"00-" + id + "-" + clientSpan + "-01"}, "Tracestate": {"vendor=x"}, "Baggage": {"user=jane"},
		"Anthropic-Version": {"2023-06-01"},
	}
}

// TestTracing: below Caddy's span there is one of ours for each request, by the
// semantic conventions, and nothing of tracing reaches the provider.
func TestTracing(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	spans := newSpanCollector(t)
	p := start(t, tracedSite(sim), spans.env()...)
	a := p.account(t)
	p.manage(t, "POST", "projects/"+a.projectID+"/keys", object{"provider": "openrouter", "api_key": a.key})
	_, narrow := a.mint(t, object{"allowed_models": []string{"gpt-4o-mini"}})

	noText := strings.Replace(chatBody("gpt-4o", false), "4o", "\xff", 1)
	usage := map[string]any{"gen_ai.usage.input_tokens": nil, "gen_ai.usage.output_tokens": nil}
	for i, c := range []struct {
		name    string
		request request
		span    string
		failure string         // error.type, and the span's status
		want    map[string]any // nil: there, and positive
	}{
		{"chat", chat(a.token, "gpt-4o", false), "chat gpt-4o", "", map[string]any{
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o",
			"gen_ai.request.stream": false, "http.request.method": "POST", "url.path": "/v1/chat/completions", "http.response.status_code": int64(200),
			"llm_proxy.project.id": a.projectID, "llm_proxy.token.id": a.tokenID, "llm_proxy.outcome": "ok", "llm_proxy.attempts": int64(1),
			"llm_proxy.cost_usd": nil,
		}},
		{"stream", request{path: "/anthropic/v1/messages", token: a.token, body: messagesBody("claude-sonnet-4-5", true)}, "chat claude-sonnet-4-5", "", map[string]any{
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.stream": true, "gen_ai.response.time_to_first_chunk": nil,
		}},
		{"Gemini", request{path: "/gemini/v1beta/models/gemini-2.5-flash:generateContent", token: a.token, body: generateBody}, "generate_content gemini-2.5-flash", "", map[string]any{
			"gen_ai.operation.name": "generate_content", "gen_ai.provider.name": "gcp.gemini",
		}},
		{"cached", chat(a.token, "sim-cached", false), "chat sim-cached", "", map[string]any{"gen_ai.usage.cache_read.input_tokens": nil}},
		{"reasoning", chat(a.token, "sim-reason", false), "chat sim-reason", "", map[string]any{"gen_ai.usage.reasoning.output_tokens": nil}},
		{"ids are no names", request{path: "/v1/files/file-123", token: a.token}, "GET /v1/files", "404", map[string]any{"url.path": "/v1/files/file-123"}},
		{"provider's error", chat(a.token, "sim-error-503", false), "chat sim-error-503", "503", map[string]any{"llm_proxy.outcome": "upstream_error"}},
		{"broken off", chat(a.token, "sim-abort", true), "chat sim-abort", "upstream_error", map[string]any{"llm_proxy.outcome": "upstream_error"}},
		{"nobody's token", chat("sk-wt-nobody", "gpt-4o", false), "chat", "invalid_token", map[string]any{
			"http.response.status_code": int64(401), "llm_proxy.outcome": "refused", "llm_proxy.attempts": int64(0),
		}},
		{"another model", chat(narrow, "gpt-4o", false), "chat gpt-4o", "model_not_allowed", map[string]any{
			"http.response.status_code": int64(403), "llm_proxy.token.id": nil,
		}},
		{"bytes that are no text", request{path: "/v1/chat/completions", token: a.token, body: noText}, "chat gpt-\uFFFD", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, header := traceHeader(i)
			c.request.header = header
			got := p.do(t, c.request)
			parent, child := spans.pair(t, id)
			if parent.Name != "site" || fmt.Sprintf("%x", parent.ParentSpanId) != clientSpan {
				t.Errorf("Caddy's span is %s below %x", parent.Name, parent.ParentSpanId)
			}
			if string(child.ParentSpanId) != string(parent.SpanId) || child.Kind != trace.Span_SPAN_KIND_CLIENT || child.Name != c.span {
				t.Errorf("our span is %q, of kind %s, below %x: want %q below %x", child.Name, child.Kind, child.ParentSpanId, c.span, parent.SpanId)
			}
			attributes := spanAttributes(child)
			if attributes["llm_proxy.request.id"] != got.header.Get("X-LLM-Proxy-Request-Id") {
				t.Errorf("request id %v", attributes["llm_proxy.request.id"])
			}
			if c.want == nil {
				c.want = make(map[string]any)
			}
			if c.failure == "" {
				for key, v := range usage {
					c.want[key] = v
				}
			} else {
				c.want["error.type"] = c.failure
			}
			for key, want := range c.want {
				if got := attributes[key]; want != nil && got != want || want == nil && !positive(got) {
					t.Errorf("%s is %v, want %v", key, got, want)
				}
			}
			_, failed := attributes["error.type"]
			if broken := child.Status.GetCode() == trace.Status_STATUS_CODE_ERROR; broken != (c.failure != "") || failed != broken {
				t.Errorf("status %v", child.Status)
			}
			for key, v := range attributes {
				if text, ok := v.(string); ok && (strings.Contains(text, a.token) || strings.Contains(text, a.key) || strings.Contains(text, "jane")) {
					t.Errorf("%s is %s", key, text)
				}
			}
		})
	}

	t.Run("realtime", func(t *testing.T) {
		id, header := traceHeader(99)
		header.Set("Authorization", "Bearer "+a.token)
		c := p.socket(t, bounded(t), realtimePath, websocket.DialOptions{HTTPHeader: header})
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
		if _, child := spans.pair(t, id); child.Name != "GET /v1/realtime" || spanAttributes(child)["gen_ai.request.model"] != "gpt-realtime" {
			t.Errorf("our span is %q: %v", child.Name, spanAttributes(child))
		}
	})

	t.Run("not traced", func(t *testing.T) {
		before := spans.count()
		_, header := traceHeader(100)
		if got := p.do(t, request{path: "/openrouter/v1/chat/completions", token: a.token, body: chatBody("gpt-4o", false), header: header}); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		id, header := traceHeader(101) // whose spans would come after
		p.do(t, request{path: "/v1/models", token: a.token, header: header})
		spans.pair(t, id)
		if n := spans.count() - before; n != 2 {
			t.Errorf("%d spans of two requests, one of them traced", n)
		}
	})

	for _, s := range sim.sightings(a.key) {
		for _, name := range []string{"Traceparent", "Tracestate", "Baggage", "B3", "Uber-Trace-Id", "X-B3-Traceid"} {
			if v := s.header.Values(name); v != nil {
				t.Errorf("%s %s: the provider saw %s: %s", s.method, s.uri, name, v)
			}
		}
		for name, values := range s.header {
			for _, v := range values {
				if strings.Contains(v, "0af7651916cd43dd8448eb21") {
					t.Errorf("the provider saw the trace's id in %s: %s", name, v)
				}
			}
		}
	}
}

func positive(v any) bool {
	switch v := v.(type) {
	case int64:
		return v > 0
	case float64:
		return v > 0
	case string:
		return v != ""
	}
	return false
}

// TestTracingUnsampled: a client that has decided against recording is heeded.
func TestTracingUnsampled(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	spans := newSpanCollector(t)
	p := start(t, tracedSite(sim), spans.env()...)
	a := p.account(t)
	eventually(t, "the spans of making an account are out", func() bool { return spans.count() > 0 })
	unsampled, header := traceHeader(1)
	header.Set("Traceparent", strings.TrimSuffix(header.Get("Traceparent"), "1")+"0")
	r := chat(a.token, "gpt-4o", false)
	r.header = header
	if got := p.do(t, r); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	id, header := traceHeader(2)
	r.header = header
	p.do(t, r)
	spans.pair(t, id)
	spans.mu.Lock()
	defer spans.mu.Unlock()
	for _, s := range spans.spans {
		if fmt.Sprintf("%x", s.TraceId) == unsampled {
			t.Errorf("there is a span %s", s.Name)
		}
	}
}
