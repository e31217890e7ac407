package sink_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
)

func otlp(t *testing.T, endpoint string, content bool) *sink.OTLP {
	t.Helper()
	o, err := sink.NewOTLP(sink.OTLPConfig{
		Endpoint: secret.NewValue(endpoint), Content: content,
		Headers: map[string]secret.Value{"X-Api-Key": secret.NewValue("key-of-the-test")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// exported decodes what a collector got.
func exported(t *testing.T, body []byte) (spans []*trace.Span, resource map[string]any) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	message, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var request collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(message, &request); err != nil {
		t.Fatal(err)
	}
	for _, r := range request.ResourceSpans {
		resource = values(t, r.Resource.Attributes)
		for _, s := range r.ScopeSpans {
			spans = append(spans, s.Spans...)
		}
	}
	return spans, resource
}

func values(t *testing.T, attributes []*common.KeyValue) map[string]any {
	t.Helper()
	m := make(map[string]any)
	for _, a := range attributes {
		if _, ok := m[a.Key]; ok {
			t.Errorf("%s is there twice", a.Key)
		}
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

func TestOTLP(t *testing.T) {
	var path string
	r := receive(t, func(w http.ResponseWriter, req *http.Request) { path = req.URL.Path })
	events := samples(2)
	events[1].Endpoint, events[1].Model, events[1].Outcome, events[1].Status = "/v1/embeddings", "m\xff", "upstream_error", 529
	events[1].InputTokens, events[1].CostNanoUSD = event.Count{}, event.Count{}
	o := otlp(t, r.URL+"/base/", false)
	for range 2 {
		if err := o.Deliver(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	if h := r.headers[0]; path != "/base/v1/traces" || h.Get("Content-Type") != "application/x-protobuf" || h.Get("X-Api-Key") != "key-of-the-test" {
		t.Errorf("%s with %v", path, h)
	}
	spans, resource := exported(t, r.bodies[0])
	again, _ := exported(t, r.bodies[1])
	if len(spans) != 2 || resource["service.name"] != "caddy-llm-proxy" || !proto.Equal(spans[0], again[0]) {
		t.Fatalf("spans %v of %v, then %v", spans, resource, again)
	}
	s, e := spans[0], events[0]
	if !bytes.Equal(s.TraceId, e.ID[:]) || len(s.SpanId) != 8 || s.Name != "chat gpt-4o" || s.Kind != trace.Span_SPAN_KIND_CLIENT ||
		s.StartTimeUnixNano != uint64(e.Time.UnixNano()) || s.EndTimeUnixNano-s.StartTimeUnixNano != uint64(1500*time.Millisecond) || s.Status.Code != trace.Status_STATUS_CODE_UNSET {
		t.Errorf("span %v", s)
	}
	got := values(t, s.Attributes)
	for key, want := range map[string]any{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "azure.ai.openai", "gen_ai.request.model": "gpt-4o",
		"gen_ai.response.model": "gpt-4o-2026-01-01", "gen_ai.request.stream": true, "gen_ai.usage.input_tokens": int64(120),
		"gen_ai.usage.output_tokens": int64(30), "gen_ai.usage.cache_read.input_tokens": int64(20), "gen_ai.usage.cache_creation.input_tokens": int64(0),
		"gen_ai.usage.reasoning.output_tokens": int64(10), "gen_ai.response.time_to_first_chunk": 0.25, "http.response.status_code": int64(200),
		"client.address": "192.0.2.7", "enduser.id": "alice", "llm_proxy.project.id": e.ProjectID.String(), "llm_proxy.cost_usd": 0.001234567,
		"llm_proxy.metadata.team": "search", "error.type": nil, "llm_proxy.request.body": nil,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	s, got = spans[1], values(t, spans[1].Attributes)
	if s.Name != "embeddings m\uFFFD" || s.Status.Code != trace.Status_STATUS_CODE_ERROR || got["error.type"] != "529" || got["gen_ai.usage.input_tokens"] != nil || got["llm_proxy.cost_usd"] != nil {
		t.Errorf("span %v", s)
	}
}

func TestOTLPContent(t *testing.T) {
	r := receive(t, nil)
	if err := otlp(t, r.URL+"/v1/traces", true).Deliver(t.Context(), samples(1)); err != nil {
		t.Fatal(err)
	}
	spans, _ := exported(t, r.bodies[0])
	if got := values(t, spans[0].Attributes); got["llm_proxy.response.body"] != "hello" || got["llm_proxy.request.body"] == nil {
		t.Errorf("attributes %v", got)
	}
}

// TestOTLPNames: spans are named by what is asked for, also where there is no name for it.
func TestOTLPNames(t *testing.T) {
	r := receive(t, nil)
	o := otlp(t, r.URL, false)
	for endpoint, want := range map[string]string{
		"/v1/responses": "chat m", "/v1/messages": "chat m", "/v1/completions": "text_completion m",
		"/v1beta/models/gemini:streamGenerateContent": "generate_content m", "/v1beta/models/gemini:embedContent": "embeddings m",
		"/v1/models": "GET /v1/models", "/v1/messages/count_tokens": "GET /v1/messages/count_tokens",
	} {
		e := delivery.Event{Method: "GET", Endpoint: endpoint, Model: "m", Outcome: "ok"}
		if err := o.Deliver(t.Context(), []delivery.Event{e}); err != nil {
			t.Fatal(err)
		}
		spans, _ := exported(t, r.bodies[len(r.bodies)-1])
		if spans[0].Name != want {
			t.Errorf("%s: %q, want %q", endpoint, spans[0].Name, want)
		}
	}
}

func TestOTLPPartialSuccess(t *testing.T) {
	for refused, want := range map[int64]string{0: "taken", 2: "taken", 3: "rejected 3"} {
		t.Run(fmt.Sprint(refused), func(t *testing.T) {
			r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
				answer, err := proto.Marshal(&collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: refused, ErrorMessage: "no"}})
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(answer)
			})
			if got := verdict(otlp(t, r.URL, false).Deliver(t.Context(), samples(3))); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK, whatever") })
	if got := verdict(otlp(t, r.URL, false).Deliver(t.Context(), samples(3))); got != "taken" {
		t.Error(got)
	}
}
