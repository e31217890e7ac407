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

const tracesPath = "/v1/traces"

// OTLPConfig says which collector gets the spans. Endpoint is required.
type OTLPConfig struct {
	Endpoint    secret.Value // base URL as in OTEL_EXPORTER_OTLP_ENDPOINT, or that of /v1/traces
	Headers     map[string]secret.Value
	ServiceName string // "": DefaultServiceName
	Content     bool   // whether captured bodies become attributes
	Logger      *slog.Logger
}

// OTLP exports each event as one span, by the semantic conventions for generative
// AI, over OTLP/HTTP in protobuf.
type OTLP struct {
	post   *poster
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
	if !strings.HasSuffix(u.Path, tracesPath) {
		u = u.JoinPath(tracesPath)
	}
	o := &OTLP{
		cfg:    cfg,
		scope:  &common.InstrumentationScope{Name: "github.com/sofatutor/caddy-llm-proxy"},
		origin: &resource.Resource{Attributes: []*common.KeyValue{text("service.name", cfg.ServiceName)}},
	}
	if o.post, err = newPoster(secret.NewValue(u.String()), cfg.Headers); err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	return o, nil
}

// Deliver implements [delivery.Sink].
func (o *OTLP) Deliver(ctx context.Context, events []delivery.Event) error {
	spans := make([]*trace.Span, len(events))
	for i := range events {
		spans[i] = o.span(&events[i])
	}
	message, err := proto.Marshal(&collector.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{{
		Resource:   o.origin,
		ScopeSpans: []*trace.ScopeSpans{{Scope: o.scope, Spans: spans}},
	}}})
	if err != nil {
		return delivery.Permanent(fmt.Errorf("encoding: %w", err))
	}
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if _, err := z.Write(message); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compressing: %w", err)
	}
	answer, err := o.post.post(ctx, body.Bytes(), "Content-Type", "application/x-protobuf", "Content-Encoding", "gzip")
	if err != nil {
		return err
	}
	return o.partial(answer, len(events))
}

// partial reads an answer that says how many spans were refused, but not which. The
// specification forbids to send them again. If it is all of them, each is a dead
// letter.
func (o *OTLP) partial(answer []byte, sent int) error {
	var response collector.ExportTraceServiceResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		return nil // a 2xx, whatever it says
	}
	p := response.GetPartialSuccess()
	switch n := p.GetRejectedSpans(); {
	case n <= 0:
		return nil
	case n >= int64(sent):
		refused := make(map[int]error, sent)
		for i := range sent {
			refused[i] = fmt.Errorf("the collector refused it: %s", p.GetErrorMessage())
		}
		return delivery.Reject(refused)
	default:
		o.cfg.Logger.Error("the collector refused some spans, and does not say which", "refused", n, "sent", sent, "reason", delivery.Reason(errors.New(p.GetErrorMessage())))
		return nil
	}
}

// Close lets go of idle connections.
func (o *OTLP) Close() error {
	o.post.close()
	return nil
}
