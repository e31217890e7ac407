package caddymodule

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gofrs/uuid/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// observe makes a record visible to access logs, as one object, and to
// placeholders. Both read it when the request is over.
func observe(r *http.Request, rec *gateway.Record) {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if ok && (server == nil || server.Logs != nil) { // no access log: nobody would read it
		extra.Set(zap.Object("llm_proxy", (*logRecord)(rec)))
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map((*placeholders)(rec).value)
	}
}

// logRecord is a record as an access log shows it.
type logRecord gateway.Record

// MarshalLogObject implements [zapcore.ObjectMarshaler].
func (r *logRecord) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("request_id", r.RequestID)
	addString(enc, "upstream_request_id", r.UpstreamRequestID)
	addID(enc, "project_id", r.ProjectID)
	addID(enc, "token_id", r.TokenID)
	addID(enc, "key_id", r.KeyID)
	addString(enc, "provider", r.Provider)
	addString(enc, "endpoint", r.Endpoint)
	addString(enc, "model", r.Model)
	addString(enc, "response_model", r.ResponseModel)
	enc.AddString("outcome", r.Outcome)
	addString(enc, "code", r.Code)
	addString(enc, "limit", r.Limit)
	addString(enc, "cache", r.Cache)
	if r.CacheKey != (respcache.Key{}) {
		enc.AddString("cache_key", r.CacheKey.String())
	}
	enc.AddBool("stream", r.Stream)
	enc.AddInt("attempts", r.Attempts)
	enc.AddDuration("duration", r.Latency)
	enc.AddDuration("upstream", r.Upstream)
	enc.AddDuration("first_byte", r.FirstByte)
	enc.AddInt64("bytes_in", r.BytesIn)
	enc.AddInt64("bytes_out", r.BytesOut)
	addCount(enc, "input_tokens", r.InputTokens)
	addCount(enc, "cached_tokens", r.CachedTokens)
	addCount(enc, "output_tokens", r.OutputTokens)
	addCount(enc, "reasoning_tokens", r.ReasoningTokens)
	if r.Estimated {
		enc.AddBool("estimated", true)
	}
	addString(enc, "cost_usd", usdText(r.CostNanoUSD))
	return nil
}

func addCount(enc zapcore.ObjectEncoder, key string, c event.Count) {
	if c.Known {
		enc.AddInt64(key, c.N)
	}
}

func addString(enc zapcore.ObjectEncoder, key, value string) {
	if value != "" {
		enc.AddString(key, value)
	}
}

func addID(enc zapcore.ObjectEncoder, key string, id uuid.UUID) {
	if !id.IsNil() {
		enc.AddString(key, id.String())
	}
}

// placeholders is a record as Caddy's replacer sees it.
type placeholders gateway.Record

func (p *placeholders) value(key string) (any, bool) {
	switch {
	case key == "http.auth.user.id": // Caddy's access log shows it as user_id
		if p.TokenID.IsNil() {
			return nil, false
		}
		return p.TokenID.String(), true
	case !strings.HasPrefix(key, "llm."):
		return nil, false
	}
	switch key {
	case "llm.project.id":
		return idText(p.ProjectID), true
	case "llm.token.id":
		return idText(p.TokenID), true
	case "llm.provider":
		return p.Provider, true
	case "llm.model":
		return p.Model, true
	case "llm.cache":
		return p.Cache, true
	case "llm.tokens.input":
		return countText(p.InputTokens), true
	case "llm.tokens.output":
		return countText(p.OutputTokens), true
	case "llm.cost_usd":
		return usdText(p.CostNanoUSD), true
	case "llm.outcome":
		return p.Outcome, true
	}
	return nil, false
}

// countText leaves an unknown count empty, which is not zero.
func countText(c event.Count) string {
	if !c.Known {
		return ""
	}
	return strconv.FormatInt(c.N, 10)
}

// usdText writes nanodollars as a decimal without superfluous zeros.
func usdText(c event.Count) string {
	if !c.Known {
		return ""
	}
	return usd.Format(c.N)
}

func idText(id uuid.UUID) string {
	if id.IsNil() {
		return ""
	}
	return id.String()
}

// clientAddr is the client's address by the server's trusted_proxies rules.
func clientAddr(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}
