package httpcache_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// header reads "Name: value" lines. A line of its own for each.
func header(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

func get(lines ...string) *httpcache.Request {
	r := httpcache.NewRequest(http.MethodGet, header(lines...))
	return &r
}

func request(method string, lines ...string) *httpcache.Request {
	r := httpcache.NewRequest(method, header(lines...))
	return &r
}

// at is the time of a response that came at once, and its Date.
func dated(lines ...string) http.Header {
	h := header(lines...)
	if h["Date"] == nil {
		h.Set("Date", noon.Format(http.TimeFormat))
	}
	return h
}

var project = httpcache.Rules{Mode: httpcache.OptIn, TTL: 5 * time.Minute}

func with(change func(*httpcache.Rules)) *httpcache.Rules {
	r := project
	change(&r)
	return &r
}

// stored is what a GET's response with these fields became at noon.
func stored(t testing.TB, rules *httpcache.Rules, req *httpcache.Request, lines ...string) *httpcache.Meta {
	t.Helper()
	v := httpcache.Consider(req, http.StatusOK, dated(lines...), noon, noon, rules)
	if !v.Store {
		t.Fatalf("not stored: %s", v.Reason)
	}
	return &v.Meta
}
