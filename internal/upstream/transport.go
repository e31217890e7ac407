// Package upstream keeps warm connections to providers.
package upstream

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// Connection habits that no operator has asked to change so far.
const (
	idleConnTimeout = 90 * time.Second
	keepAlive       = 30 * time.Second
	// pingAfter and pingTimeout find HTTP/2 connections that died silently, on which
	// every request would hang.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	bufferSize  = 16 << 10
)

// Settings are what a connection pool depends on. Two configurations with equal
// settings share a pool, so that a reload keeps its connections.
type Settings struct {
	Host                string // scheme and authority: keys never reach another host's pool
	DialTimeout         time.Duration
	MaxIdleConnsPerHost int
}

// SettingsFor are a provider's settings.
func SettingsFor(p *provider.Provider) Settings {
	return Settings{
		Host:                p.Scheme() + "://" + p.Host(),
		DialTimeout:         p.DialTimeout,
		MaxIdleConnsPerHost: p.MaxIdleConnsPerHost,
	}
}

// Key identifies the settings in a pool of shared resources.
func (s Settings) Key() string {
	return fmt.Sprintf("%s|%s|%d", s.Host, s.DialTimeout, s.MaxIdleConnsPerHost)
}

// NewTransport makes a transport: HTTP/2 where the provider offers it, no
// compression of its own, and no time limit on an answer, which may take minutes to begin.
func NewTransport(s Settings) *http.Transport {
	dialer := &net.Dialer{Timeout: s.DialTimeout, KeepAlive: keepAlive}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: s.DialTimeout,
		MaxIdleConnsPerHost: s.MaxIdleConnsPerHost,
		IdleConnTimeout:     idleConnTimeout,
		DisableCompression:  true,
		ForceAttemptHTTP2:   true,
		WriteBufferSize:     bufferSize,
		ReadBufferSize:      bufferSize,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}
