package httpcache_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// RFC 9211, 2.
func TestStatus(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]httpcache.Status{
		"llm-proxy":                       {},
		"llm-proxy; hit":                  {Hit: true},
		"llm-proxy; hit; ttl=59":          {Hit: true, HasTTL: true, TTL: 59*time.Second + 900*time.Millisecond, Forward: httpcache.ForwardStale},
		"llm-proxy; hit; ttl=-3":          {Hit: true, HasTTL: true, TTL: -3 * time.Second},
		"llm-proxy; fwd=uri-miss; stored": {Forward: httpcache.ForwardURIMiss, Stored: true},
		"llm-proxy; fwd=stale; fwd-status=304; stored; ttl=60": {Forward: httpcache.ForwardStale, Upstream: 304, Stored: true, HasTTL: true, TTL: time.Minute},
		"llm-proxy; fwd=vary-miss; collapsed":                  {Forward: httpcache.ForwardVaryMiss, Collapsed: true},
		"llm-proxy; fwd=bypass; detail=req-no-store":           {Forward: httpcache.ForwardBypass, Detail: httpcache.ReasonNoStore},
		"llm-proxy; detail=only-if-cached":                     {Detail: httpcache.ReasonOnlyIfCached},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestStatusSet(t *testing.T) {
	t.Parallel()
	s := httpcache.Status{Forward: httpcache.ForwardMiss}
	for want, before := range map[string][]string{
		"llm-proxy; fwd=miss":                      nil,
		"origin; hit, llm-proxy; fwd=miss":         {"origin; hit"},
		"a; hit, b; fwd=miss, llm-proxy; fwd=miss": {"a; hit", " ", "b; fwd=miss,"},
	} {
		h := http.Header{}
		if before != nil {
			h["Cache-Status"] = before
		}
		s.Set(h)
		if got := h.Values("Cache-Status"); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
