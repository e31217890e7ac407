package caddymodule

import (
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// spanNameUnknown is the name of spans for paths that no provider has.
const spanNameUnknown = "llm_proxy"

// traced begins a child of the span that Caddy's tracing handler has made, if it
// made one. end must be called when rec is complete.
//
// Names follow OpenTelemetry's semantic conventions for generative AI, 1.41.
func traced(r *http.Request, rec *gateway.Record) (_ *http.Request, end func()) {
	parent := trace.SpanFromContext(r.Context())
	if !parent.IsRecording() {
		return r, func() {}
	}
	tracer := parent.TracerProvider().Tracer("github.com/sofatutor/caddy-llm-proxy")
	ctx, span := tracer.Start(r.Context(), spanNameUnknown, trace.WithSpanKind(trace.SpanKindClient))
	return r.WithContext(ctx), func() {
		describe(span, rec)
		span.End()
	}
}

func describe(span trace.Span, rec *gateway.Record) {
	span.SetName(spanName(rec))
	a := spanAttributes{span}
	a.text("gen_ai.operation.name", rec.Operation)
	a.text("gen_ai.provider.name", provider.SemanticName(rec.ProviderType))
	a.text("gen_ai.request.model", rec.Model)
	a.text("gen_ai.response.model", rec.ResponseModel)
	a.count("gen_ai.usage.input_tokens", rec.InputTokens)
	a.count("gen_ai.usage.output_tokens", rec.OutputTokens)
	a.count("gen_ai.usage.cache_read.input_tokens", rec.CachedTokens)
	a.count("gen_ai.usage.cache_creation.input_tokens", rec.CacheWriteTokens)
	a.count("gen_ai.usage.reasoning.output_tokens", rec.ReasoningTokens)
	a.text("http.request.method", rec.Method)
	a.text("url.path", rec.Endpoint)
	a.text("llm_proxy.request.id", rec.RequestID)
	a.text("llm_proxy.upstream_request.id", rec.UpstreamRequestID)
	a.text("llm_proxy.project.id", idText(rec.ProjectID))
	a.text("llm_proxy.token.id", idText(rec.TokenID))
	a.text("llm_proxy.key.id", idText(rec.KeyID))
	a.text("llm_proxy.outcome", rec.Outcome)
	span.SetAttributes(attribute.Int("llm_proxy.attempts", rec.Attempts))
	if rec.Operation != "" {
		span.SetAttributes(attribute.Bool("gen_ai.request.stream", rec.Stream))
	}
	if rec.Status > 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", rec.Status))
	}
	if rec.Stream && rec.TTFT > 0 {
		span.SetAttributes(attribute.Float64("gen_ai.response.time_to_first_chunk", rec.TTFT.Seconds()))
	}
	if rec.CostNanoUSD.Known {
		span.SetAttributes(attribute.Float64("llm_proxy.cost_usd", float64(rec.CostNanoUSD.N)/1e9))
	}
	if rec.Outcome == gateway.OutcomeOK {
		return
	}
	kind := errorType(rec)
	a.text("error.type", kind)
	if rec.Outcome != gateway.OutcomeClientCancelled { // which is nobody's failure
		span.SetStatus(codes.Error, kind)
	}
}

// spanName has few values: ids in paths are not part of it.
func spanName(rec *gateway.Record) string {
	if rec.Operation != "" {
		return valid(strings.TrimSpace(rec.Operation + " " + rec.Model))
	}
	parts := strings.SplitN(rec.Endpoint, "/", 4)
	if len(parts) < 3 {
		return spanNameUnknown
	}
	return valid(rec.Method + " /" + parts[1] + "/" + parts[2])
}

// errorType is our own code, or the provider's status, or else what happened.
func errorType(rec *gateway.Record) string {
	switch {
	case rec.Code != "":
		return rec.Code
	case rec.Outcome == gateway.OutcomeUpstreamError && rec.Status >= 400:
		return strconv.Itoa(rec.Status)
	case rec.Outcome != "":
		return rec.Outcome
	}
	return "_OTHER"
}

// spanAttributes leaves out what is empty or unknown.
type spanAttributes struct{ span trace.Span }

func (a spanAttributes) text(key, value string) {
	if value != "" {
		a.span.SetAttributes(attribute.String(key, valid(value)))
	}
}

func (a spanAttributes) count(key string, c event.Count) {
	if c.Known {
		a.span.SetAttributes(attribute.Int64(key, c.N))
	}
}

// valid makes a text that protobuf takes: otherwise a whole batch of spans would be lost.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
