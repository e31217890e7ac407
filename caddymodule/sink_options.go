package caddymodule

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"golang.org/x/net/http/httpguts"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
)

// What the modules of sinks have in common.

// sinkBlock reads the block of a sink whose options come once each, but header.
func sinkBlock(d *caddyfile.Dispenser, read func(option string) error) error {
	d.Next()
	if err := noArg(d, "write the options of "+d.Val()+" in a block, one a line"); err != nil {
		return err
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option != "header" {
			if err := seen.add(d, option); err != nil {
				return err
			}
		}
		if err := read(option); err != nil {
			return err
		}
	}
	return nil
}

// unknownSinkOption refuses an option that neither the module has nor all sinks do.
func unknownSinkOption(d *caddyfile.Dispenser, known string) error {
	return unknownOption(d, known+", type, from, batch, linger, timeout, max_attempts, retry_for")
}

func parseSinkURL(d *caddyfile.Dispenser) (string, error) {
	option := d.Val()
	text, err := oneArg(d)
	if err == nil && isLiteral(text) {
		if bad := sink.CheckURL(text); bad != nil {
			err = d.Errf("%s: %v", option, bad)
		}
	}
	return text, err
}

func parseSinkHeader(d *caddyfile.Dispenser, headers map[string]string) (map[string]string, error) {
	words := d.RemainingArgs()
	if len(words) != 2 {
		return nil, d.Err("expected the name of a header and its value, such as: header Authorization {env.WEBHOOK_AUTHORIZATION}")
	}
	name := canonicalHeader(words[0])
	if err := checkHeaderName(name); err != nil {
		return nil, d.Errf("header: %v", err)
	}
	if _, ok := headers[name]; ok {
		return nil, d.Errf("header %s is given twice", name)
	}
	if headers == nil {
		headers = make(map[string]string)
	}
	headers[name] = words[1]
	return headers, noBlock(d)
}

// sinkSecrets resolves what may be secret, and warns of literals.
type sinkSecrets struct{ logger *slog.Logger }

// secret resolves a value that is one.
func (r sinkSecrets) secret(option, text string) (secret.Value, error) {
	value, err := resolve(text)
	if err != nil {
		// Caddy's error names the placeholder; a literal is never part of it.
		return secret.Value{}, fmt.Errorf("%w; expected a secret, best as a placeholder that resolves, such as {env.NAME} or {file./run/secrets/name}", err)
	}
	if value == text {
		r.warn(option)
	}
	return secret.NewValue(value), nil
}

// warn tells of a secret that is a literal.
func (r sinkSecrets) warn(option string) {
	r.logger.Warn("a secret is written into the configuration, where GET /config/ and the autosave file show it: use {env.NAME} or {file./path} instead of a literal or {$NAME}", "option", option)
}

// url resolves an address.
func (r sinkSecrets) url(text string) (secret.Value, error) {
	value, err := resolve(text)
	if err != nil {
		return secret.Value{}, err
	}
	if value == text && holdsPassword(value) {
		r.warn("url")
	}
	return secret.NewValue(value), sink.CheckURL(value)
}

// headers resolves headers.
func (r sinkSecrets) headers(given map[string]string) (map[string]secret.Value, error) {
	headers := make(map[string]secret.Value)
	for name, text := range given {
		if err := checkHeaderName(name); err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		read := r.secret
		if !namesSecret(name) {
			read = func(_, text string) (secret.Value, error) { v, err := resolve(text); return secret.NewValue(v), err }
		}
		value, err := read("header "+name, text)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		if !httpguts.ValidHeaderFieldValue(value.Reveal()) {
			return nil, fmt.Errorf("header %s: its value has characters that a header cannot have", name)
		}
		headers[canonicalHeader(name)] = value
	}
	return headers, nil
}

// namesSecret reports whether a header of that name is likely to hold a secret.
func namesSecret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"auth", "key", "token", "secret", "cookie", "password"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
