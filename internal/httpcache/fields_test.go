package httpcache_test

import (
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// TestStoredFields: what tells of one exchange, one client or one account is not
// stored, not even if the operator wants everything.
func TestStoredFields(t *testing.T) {
	t.Parallel()
	known := lines{
		"Cache-Control: max-age=60", "Content-Type: application/json", "Content-Length: 2", "Content-Encoding: gzip",
		"Content-Disposition: attachment", "ETag: \"a\"", "Last-Modified: Fri, 01 May 2026 10:00:00 GMT", "Vary: Accept", "Link: </x>",
		"Openai-Version: 2020-10-01", "X-Content-Type-Options: nosniff",
	}
	never := lines{
		"Connection: x-hop", "Keep-Alive: timeout=5", "TE: x", "Trailer: x", "Transfer-Encoding: chunked", "Upgrade: x", "Proxy-Authenticate: x",
		"X-Request-Id: 1", "Request-Id: 1", "Cf-Ray: 1", "Traceparent: 1", "Server-Timing: x", "Openai-Processing-Ms: 1", "Via: x",
		"Openai-Organization: a", "Openai-Project: p", "Anthropic-Organization-Id: a",
		"X-Ratelimit-Remaining-Requests: 1", "X-Ratelimit-Limit-Tokens: 1", "Anthropic-Ratelimit-Requests-Remaining: 1", "RateLimit: x", "RateLimit-Policy: x",
		"Retry-After: 1", "X-Should-Retry: true", "Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: x",
		"Set-Cookie: __cf_bm=1", "WWW-Authenticate: x", "Age: 1", "Cache-Status: x; hit", "X-LLM-Proxy-Request-Id: 1", "X-Hop: listed",
	}
	custom := lines{"X-Model-Server: a1", "Server: x"}
	all := append(append(append(lines{}, known...), never...), custom...)

	check := func(name string, rules *httpcache.Rules, want lines) {
		t.Helper()
		m := stored(t, rules, get(), all...)
		if w := dated(want...); !equal(m.Header, w) {
			t.Errorf("%s:\n got %v\nwant %v", name, m.Header, w)
		}
	}
	check("the known ones", &project, known)
	check("and some", with(func(r *httpcache.Rules) { r.Fields = fields(t, "x-model-*") }), append(known, custom[0]))
	check("everything", with(func(r *httpcache.Rules) { r.Fields = fields(t, "*") }), append(known, custom...))
}

// RFC 9111, 5.2.2.4.
func TestNoCacheFields(t *testing.T) {
	t.Parallel()
	m := stored(t, &project, get(), `Cache-Control: no-cache="content-LANGUAGE, Link", max-age=60`, "Content-Language: en", "Link: </x>", "Link: </y>", "Content-Type: text/plain")
	if m.Header["Content-Language"] != nil || m.Header["Link"] != nil || m.Header["Content-Type"] == nil || m.AlwaysConfirm {
		t.Errorf("%+v", m)
	}
	for _, cc := range []string{`no-cache="", max-age=60`, `no-cache="a b", max-age=60`, `no-cache="a, max-age=60`, `no-cache=`} {
		if m := stored(t, &project, get(), "Cache-Control: "+cc, `ETag: "a"`); !m.AlwaysConfirm {
			t.Errorf("%s: stored as if it named fields", cc)
		}
	}
}

func TestParseFields(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "a b", "a:", "Set-Cookie", "x-request-id", "X-RateLimit-*", "access-control-allow-origin", "Proxy-*"} {
		if _, err := httpcache.ParseFields([]string{"fine", bad}); err == nil || !strings.Contains(err.Error(), `"`+bad+`"`) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if f, err := httpcache.ParseFields(nil); err != nil || f == nil {
		t.Error(err)
	}
}
