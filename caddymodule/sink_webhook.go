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

// WebhookSink is the sink `webhook`: batches as JSON arrays, posted to a URL and
// signed as Standard Webhooks says. Redirects are not followed.
type WebhookSink struct {
	// The URL, http or https. Write it as {env.NAME} if it holds a secret. Required.
	URL string `json:"url,omitempty"`

	// The secrets that sign: whsec_ and base64 of 24 to 64 random bytes. With several,
	// there are as many signatures, so that a receiver can change over from one to
	// another. Default: none, and no signature.
	Secrets []string `json:"secrets,omitempty"`

	// Further headers, such as Authorization.
	Headers map[string]string `json:"headers,omitempty"`

	webhook *sink.Webhook
}

// CaddyModule returns the Caddy module information.
func (*WebhookSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "llm_proxy.sinks.webhook", New: func() caddy.Module { return new(WebhookSink) }}
}

// Provision checks the options. Nothing is sent.
func (s *WebhookSink) Provision(ctx caddy.Context) error {
	if s.URL == "" {
		return errors.New("url: expected a URL to post to, such as https://example.com/events")
	}
	r := sinkSecrets{ctx.Slogger()}
	target, err := r.url(s.URL)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	cfg := sink.WebhookConfig{URL: target}
	for i, text := range s.Secrets {
		value, err := r.secret("secret", text)
		if err != nil {
			return fmt.Errorf("secret %d: %w", i+1, err)
		}
		cfg.Secrets = append(cfg.Secrets, value)
	}
	if cfg.Headers, err = r.headers(s.Headers); err != nil {
		return err
	}
	s.webhook, err = sink.NewWebhook(cfg)
	return err
}

// Deliver implements [guest.Sink].
func (s *WebhookSink) Deliver(ctx context.Context, events []guest.Event) error {
	return s.webhook.Deliver(ctx, events)
}

// Cleanup closes connections.
func (s *WebhookSink) Cleanup() error {
	if s.webhook == nil {
		return nil
	}
	return s.webhook.Close()
}

// UnmarshalCaddyfile reads the block:
//
//	sink <name> {
//		type webhook
//		url <url>
//		secret <secrets...>
//		header <name> <value>
//	}
func (s *WebhookSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return sinkBlock(d, func(option string) (err error) {
		switch option {
		case "url":
			s.URL, err = parseSinkURL(d)
		case "secret":
			s.Secrets, err = args(d, func(text string) error { _, err := sink.ParseWebhookSecret(text); return err })
		case "header":
			s.Headers, err = parseSinkHeader(d, s.Headers)
		default:
			err = unknownSinkOption(d, "url, secret, header")
		}
		return err
	})
}

// Interface guards
var (
	_ guest.Sink            = (*WebhookSink)(nil)
	_ caddy.Provisioner     = (*WebhookSink)(nil)
	_ caddy.CleanerUpper    = (*WebhookSink)(nil)
	_ caddyfile.Unmarshaler = (*WebhookSink)(nil)
)
