package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
)

// variant is one configuration of the same Caddy binary.
type variant struct {
	name     string
	ready    string         // path that answers 200 once it is; empty: it is when it listens
	governed bool           // a client needs a token
	limits   map[string]any // of the project and of the token, as the management API has them
	global   func(l *lab, dir string) string
	site     func(l *lab) string
}

// caddyfile is the configuration: the options that all variants share, and a
// site with plain HTTP/1.1 on one address.
func (v variant) caddyfile(l *lab, addr, dir string) string {
	var global string
	if v.global != nil {
		global = v.global(l, dir)
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	storage file_system %s
	log {
		level WARN
	}
%s}

http://%s {
	bind 127.0.0.1
%s}
`, filepath.Join(dir, "caddy"), global, addr, v.site(l))
}

var (
	reversePlain = variant{name: "reverse_proxy, HTTP/1.1", site: func(l *lab) string { return reverseProxy(l.info.Plain, "") }}
	reverseTLS   = variant{name: "reverse_proxy, TLS HTTP/2", site: func(l *lab) string {
		return reverseProxy("https://"+l.info.TLS, "\t\t\ttls_trust_pool file "+l.roots+"\n\t\t\tversions 2\n")
	}}
	governedPlain = variant{name: "llm_proxy, HTTP/1.1", ready: "/ready", governed: true, site: governedSite,
		global: func(l *lab, dir string) string { return governedApp(sqliteIn(dir), "http://"+l.info.Plain) }}
	governedTLS = variant{name: "llm_proxy, TLS HTTP/2", ready: "/ready", governed: true, site: governedSite,
		global: func(l *lab, dir string) string { return governedApp(sqliteIn(dir), "https://"+l.info.TLS) }}
	respondAnswer  = variant{name: "respond 200", site: func(*lab) string { return respond(http.StatusOK, answerBody, answerHeaders) }}
	respondRefusal = variant{name: "respond 401", site: func(*lab) string { return respond(http.StatusUnauthorized, refusalBody, nil) }}
)

// reverseProxy is what an operator writes who puts Caddy before a provider:
// its host name, the key, and enough idle connections.
func reverseProxy(upstream, transport string) string {
	return fmt.Sprintf(`	reverse_proxy %s {
		header_up Host {upstream_hostport}
		header_up Authorization "Bearer {env.PROVIDER_KEY}"
		transport http {
			keepalive_idle_conns_per_host 1024
%s		}
	}
`, upstream, transport)
}

func sqliteIn(dir string) string { return "sqlite " + filepath.Join(dir, "llm-proxy.db") }

func governedApp(database, upstream string) string {
	return fmt.Sprintf(`	llm_proxy {
		database %s
		management_token {env.MANAGEMENT_TOKEN}
		provider openai {
			base_url %s/v1
			max_idle_conns_per_host 1024
		}
	}
`, database, upstream)
}

func governedSite(*lab) string { return "\tllm_proxy_admin\n\tllm_proxy\n" }

func respond(status int, body string, headers []header) string {
	var b strings.Builder
	b.WriteString("\theader Content-Type application/json\n")
	for _, h := range headers {
		fmt.Fprintf(&b, "\theader %s %q\n", h.name, h.value)
	}
	fmt.Fprintf(&b, "\trespond `%s` %d\n", body, status)
	return b.String()
}
