package sink

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// DefaultServiceName is the service.name of what is exported.
const DefaultServiceName = "caddy-llm-proxy"

const (
	tracesPath = "/v1/traces"
	logsPath   = "/v1/logs"
)

// OTLPConfig says which collector gets what is exported. Endpoint is required.
type OTLPConfig struct {
	Endpoint    secret.Value // base URL as in OTEL_EXPORTER_OTLP_ENDPOINT, or that of /v1/traces; /v1/logs is beside it
	Headers     map[string]secret.Value
	ServiceName string // "": DefaultServiceName
	Content     bool   // whether captured bodies become attributes
	Logger      *slog.Logger
}

// OTLP exports each request as one span, by the semantic conventions for generative
// AI, and each alert as a log record, over OTLP/HTTP in protobuf.
type OTLP struct {
	traces *poster
	logs   *poster
	scope  *common.InstrumentationScope
	origin *resource.Resource
	cfg    OTLPConfig
}

// NewOTLP makes an exporter.
func NewOTLP(cfg OTLPConfig) (*OTLP, error) {
	if cfg.ServiceName == "" {
		cfg.ServiceName = DefaultServiceName
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := CheckURL(cfg.Endpoint.Reveal()); err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	u, err := url.Parse(cfg.Endpoint.Reveal())
	if err != nil {
		return nil, errors.New("endpoint: is not a URL")
	}
	traces, logs := u.JoinPath(tracesPath), u.JoinPath(logsPath)
	if base, ok := strings.CutSuffix(u.Path, tracesPath); ok {
		other := *u
		other.Path, other.RawPath = base, strings.TrimSuffix(u.RawPath, tracesPath)
		traces, logs = u, other.JoinPath(logsPath)
	}
	o := &OTLP{
		cfg:    cfg,
		scope:  &common.InstrumentationScope{Name: "github.com/sofatutor/caddy-llm-proxy"},
		origin: &resource.Resource{Attributes: []*common.KeyValue{text("service.name", cfg.ServiceName)}},
	}
	if o.traces, err = newPoster(secret.NewValue(traces.String()), cfg.Headers); err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	o.logs = o.traces.at(logs.String())
	return o, nil
}

// Deliver implements [delivery.Sink]. Alerts go first: they are few, and what follows
// may fail and have the whole batch sent again.
func (o *OTLP) Deliver(ctx context.Context, events []delivery.Event) error {
	refused := make(map[int]error)
	if err := o.deliverAlerts(ctx, events, refused); err != nil {
		return err
	}
	if err := o.deliverRequests(ctx, events, refused); err != nil {
		return err
	}
	return delivery.Reject(refused)
}

// deliverRequests exports requests as spans.
func (o *OTLP) deliverRequests(ctx context.Context, events []delivery.Event, refused map[int]error) error {
	spans := make([]*trace.Span, 0, len(events))
	for i := range events {
		if events[i].Alert == nil {
			spans = append(spans, o.span(&events[i]))
		}
	}
	if len(spans) == 0 {
		return nil
	}
	answer, err := o.export(ctx, o.traces, &collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
		Resource:   o.origin,
		ScopeSpans: []*trace.ScopeSpans{{Scope: o.scope, Spans: spans}},
	}}})
	if err != nil {
		return err
	}
	var response collector.ExportTraceServiceResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		return nil // a 2xx, whatever it says
	}
	p := response.GetPartialSuccess()
	if err := o.partial("spans", p.GetRejectedSpans(), len(spans), p.GetErrorMessage()); err != nil {
		for i := range events {
			if events[i].Alert == nil {
				refused[i] = err
			}
		}
	}
	return nil
}

// export posts a message and returns the answer.
func (o *OTLP) export(ctx context.Context, to *poster, message proto.Message) ([]byte, error) {
	text, err := proto.Marshal(message)
	if err != nil {
		return nil, delivery.Permanent(fmt.Errorf("encoding: %w", err))
	}
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if _, err := z.Write(text); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	return to.post(ctx, body.Bytes(), "Content-Type", "application/x-protobuf", "Content-Encoding", "gzip")
}

// partial judges an answer that says how many of those sent were refused, but not
// which. The specification forbids to send them again. If it is all of them, the error
// says why.
func (o *OTLP) partial(what string, refused int64, sent int, reason string) error {
	switch {
	case refused <= 0:
		return nil
	case refused >= int64(sent):
		return fmt.Errorf("the collector refused it: %s", reason)
	}
	o.cfg.Logger.Error("the collector refused some "+what+", and does not say which", "refused", refused, "sent", sent, "reason", delivery.Reason(errors.New(reason)))
	return nil
}

// Close lets go of idle connections.
func (o *OTLP) Close() error {
	o.traces.close() // which are those of both
	return nil
}
