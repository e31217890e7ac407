package caddymodule

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sofatutor/caddy-llm-proxy/caddymodule/guest"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
)

// OTLPSink is the sink `otlp`: each event as a span with the attributes of
// OpenTelemetry's semantic conventions for generative AI, sent over OTLP/HTTP.
type OTLPSink struct {
	// The collector's address, as in OTEL_EXPORTER_OTLP_ENDPOINT: /v1/traces is added
	// unless it is there. Required.
	Endpoint string `json:"endpoint,omitempty"`

	// Further headers, such as Authorization.
	Headers map[string]string `json:"headers,omitempty"`

	// The attribute service.name. Default: caddy-llm-proxy.
	ServiceName string `json:"service_name,omitempty"`

	// Whether bodies that were captured become attributes. Default: false.
	Content bool `json:"content,omitempty"`

	otlp *sink.OTLP
}

// CaddyModule returns the Caddy module information.
func (*OTLPSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "llm_proxy.sinks.otlp", New: func() caddy.Module { return new(OTLPSink) }}
}

// Provision checks the options. Nothing is sent.
func (s *OTLPSink) Provision(ctx caddy.Context) error {
	if s.Endpoint == "" {
		return errors.New("endpoint: expected the address of a collector, such as http://127.0.0.1:4318")
	}
	r := sinkSecrets{ctx.Slogger()}
	endpoint, err := r.url(s.Endpoint)
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	cfg := sink.OTLPConfig{Endpoint: endpoint, Content: s.Content, Logger: ctx.Slogger()}
	if cfg.Headers, err = r.headers(s.Headers); err != nil {
		return err
	}
	if s.ServiceName != "" {
		if cfg.ServiceName, err = resolve(s.ServiceName); err != nil {
			return fmt.Errorf("service_name: %w", err)
		}
	}
	s.otlp, err = sink.NewOTLP(cfg)
	return err
}

// Deliver implements [guest.Sink].
func (s *OTLPSink) Deliver(ctx context.Context, events []guest.Event) error {
	return s.otlp.Deliver(ctx, events)
}

// Cleanup closes connections.
func (s *OTLPSink) Cleanup() error {
	if s.otlp == nil {
		return nil
	}
	return s.otlp.Close()
}

// UnmarshalCaddyfile reads the block:
//
//	sink <name> {
//		type otlp
//		endpoint <url>
//		header <name> <value>
//		service_name <name>
//		content on|off
//	}
func (s *OTLPSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return sinkBlock(d, func(option string) (err error) {
		switch option {
		case "endpoint":
			s.Endpoint, err = parseSinkURL(d)
		case "header":
			s.Headers, err = parseSinkHeader(d, s.Headers)
		case "service_name":
			s.ServiceName, err = oneArg(d)
		case "content":
			var on *bool
			if on, err = parseSwitch(d); err == nil {
				s.Content = *on
			}
		default:
			err = unknownSinkOption(d, "endpoint, header, service_name, content")
		}
		return err
	})
}

// Interface guards
var (
	_ guest.Sink            = (*OTLPSink)(nil)
	_ caddy.Provisioner     = (*OTLPSink)(nil)
	_ caddy.CleanerUpper    = (*OTLPSink)(nil)
	_ caddyfile.Unmarshaler = (*OTLPSink)(nil)
)
