package sink

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// otlpProviders are providers whose name is another in the semantic conventions.
var otlpProviders = map[string]string{
	"azure_openai": "azure.ai.openai",
	"gemini":       "gcp.gemini",
	"mistral":      "mistral_ai",
	"xai":          "x_ai",
}

// operation is gen_ai.operation.name for an endpoint, or "" for one that the
// semantic conventions have no name for.
func operation(endpoint string) string {
	path, action, _ := strings.Cut(endpoint, ":")
	switch {
	case strings.HasSuffix(path, "/chat/completions"), strings.HasSuffix(path, "/responses"), strings.HasSuffix(path, "/messages"):
		return "chat"
	case strings.HasSuffix(path, "/completions"):
		return "text_completion"
	case strings.HasSuffix(path, "/embeddings"), strings.HasPrefix(action, "embedContent"), strings.HasPrefix(action, "batchEmbedContents"):
		return "embeddings"
	case strings.HasPrefix(action, "generateContent"), strings.HasPrefix(action, "streamGenerateContent"):
		return "generate_content"
	}
	return ""
}

// span makes one of an event. Its ids follow from the event's, so that a receiver
// knows one that it has had. The request's id is that of the trace.
func (o *OTLP) span(e *delivery.Event) *trace.Span {
	sum := sha256.Sum256(e.ID[:])
	name, op := e.Method+" "+e.Endpoint, operation(e.Endpoint)
	if op != "" {
		name = strings.TrimSpace(op + " " + e.Model)
	}
	s := &trace.Span{
		TraceId: slices.Clone(e.ID[:]), SpanId: sum[:8], Name: valid(name), Kind: trace.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: nano(e.Time), EndTimeUnixNano: nano(e.Time.Add(max(0, e.Latency))),
		Status: new(trace.Status),
	}
	if e.Outcome != "ok" {
		s.Status.Code = trace.Status_STATUS_CODE_ERROR
	}
	s.Attributes = o.attributes(e, op)
	return s
}

func (o *OTLP) attributes(e *delivery.Event, op string) []*common.KeyValue {
	var a attributes
	a.text("gen_ai.operation.name", op)
	a.text("gen_ai.provider.name", otlpProvider(e.Provider))
	a.text("gen_ai.request.model", e.Model)
	a.text("gen_ai.response.model", e.ResponseModel)
	if op != "" {
		a.flag("gen_ai.request.stream", e.Stream)
	}
	a.count("gen_ai.usage.input_tokens", e.InputTokens)
	a.count("gen_ai.usage.output_tokens", e.OutputTokens)
	a.count("gen_ai.usage.cache_read.input_tokens", e.CachedTokens)
	a.count("gen_ai.usage.cache_creation.input_tokens", e.CacheWriteTokens)
	a.count("gen_ai.usage.reasoning.output_tokens", e.ReasoningTokens)
	if e.TTFT > 0 && e.Stream {
		a.number("gen_ai.response.time_to_first_chunk", e.TTFT.Seconds())
	}
	if e.Outcome != "ok" {
		a.text("error.type", errorType(e))
	}
	a.text("http.request.method", e.Method)
	a.text("url.path", e.Endpoint)
	if e.Status > 0 {
		a.count("http.response.status_code", event.Known(int64(e.Status)))
	}
	if e.ClientIP.IsValid() {
		a.text("client.address", e.ClientIP.String())
	}
	a.text("enduser.id", e.EndUser)
	if e.Provider == "openai" {
		a.text("openai.response.service_tier", e.ServiceTier)
	}

	a.text("llm_proxy.request.id", e.ID.String())
	a.text("llm_proxy.upstream_request.id", e.UpstreamRequestID)
	a.id("llm_proxy.project.id", e.ProjectID)
	a.id("llm_proxy.token.id", e.TokenID)
	a.id("llm_proxy.key.id", e.KeyID)
	a.text("llm_proxy.outcome", e.Outcome)
	a.text("llm_proxy.cache", e.Cache)
	a.count("llm_proxy.attempts", event.Known(int64(e.Attempts)))
	a.number("llm_proxy.overhead", e.Overhead.Seconds())
	a.text("llm_proxy.usage.source", e.UsageSource)
	if e.CostNanoUSD.Known {
		a.number("llm_proxy.cost_usd", float64(e.CostNanoUSD.N)/1e9)
	}
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		a.text("llm_proxy.metadata."+key, e.Metadata[key])
	}
	if o.cfg.Content {
		a.text("llm_proxy.request.body", e.Request)
		a.text("llm_proxy.response.body", e.Response)
	}
	return a
}

func otlpProvider(name string) string {
	if known, ok := otlpProviders[name]; ok {
		return known
	}
	return name
}

// errorType is error.type: our own code, or the status, or else what happened.
func errorType(e *delivery.Event) string {
	switch {
	case e.Code != "":
		return e.Code
	case e.Outcome == "upstream_error" && e.Status >= 400:
		return itoa(int64(e.Status))
	case e.Outcome != "":
		return e.Outcome
	}
	return "_OTHER"
}

func nano(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

// valid makes a text that protobuf takes.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
