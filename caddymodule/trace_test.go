package caddymodule

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
)

// TestUntraced: where no tracing handler is, nothing is made and nothing allocated.
func TestUntraced(t *testing.T) {
	r, rec := httptest.NewRequest("POST", "/v1/chat/completions", nil), new(gateway.Record)
	if same, end := traced(r, rec); same != r {
		t.Error("the request has changed")
	} else {
		end()
	}
	n := testing.AllocsPerRun(100, func() {
		_, end := traced(r, rec)
		end()
	})
	if n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

// TestSpan is what e2e cannot bring about at will.
func TestSpan(t *testing.T) {
	for name, c := range map[string]struct {
		rec    gateway.Record
		span   string
		kind   string // error.type
		status codes.Code
	}{
		"ok":           {gateway.Record{Event: event.Event{Outcome: "ok", Model: "m"}, Operation: "chat"}, "chat m", "", codes.Unset},
		"client left":  {gateway.Record{Event: event.Event{Outcome: "client_cancelled", Status: 499}, Operation: "chat"}, "chat", "client_cancelled", codes.Unset},
		"cut":          {gateway.Record{Event: event.Event{Outcome: "cut", Code: "token_inactive", Status: 200}, Operation: "embeddings"}, "embeddings", "token_inactive", codes.Error},
		"no path":      {gateway.Record{Event: event.Event{Outcome: "refused", Code: "endpoint_not_found"}}, "llm_proxy", "endpoint_not_found", codes.Error},
		"a panic":      {gateway.Record{}, "llm_proxy", "_OTHER", codes.Error},
		"short path":   {gateway.Record{Event: event.Event{Method: "GET", Endpoint: "/v1", Outcome: "ok"}}, "llm_proxy", "", codes.Unset},
		"ids in paths": {gateway.Record{Event: event.Event{Method: "DELETE", Endpoint: "/v1/files/file-1/content", Outcome: "ok"}}, "DELETE /v1/files", "", codes.Unset},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := tracetest.NewSpanRecorder()
			provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder))
			defer func() {
				if err := provider.Shutdown(context.Background()); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
			ctx, parent := provider.Tracer("test").Start(t.Context(), "parent")
			rec := c.rec
			r, end := traced(httptest.NewRequest("POST", "/", nil).WithContext(ctx), &rec)
			if r.Context() == ctx {
				t.Error("the request is not that of the span")
			}
			end()
			parent.End()
			span := recorder.Ended()[0]
			if span.Name() != c.span || span.Status().Code != c.status || span.Parent().SpanID() != parent.SpanContext().SpanID() {
				t.Errorf("span %q, status %v", span.Name(), span.Status())
			}
			kind := ""
			for _, a := range span.Attributes() {
				if a.Key == "error.type" {
					kind = a.Value.AsString()
				}
			}
			if kind != c.kind {
				t.Errorf("error.type %q, want %q", kind, c.kind)
			}
		})
	}
}
