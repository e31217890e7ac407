package caddymodule

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"
)

func duration(d caddy.Duration) time.Duration { return time.Duration(d) }

func validHeaderName(name string) bool { return httpguts.ValidHeaderFieldName(name) }

func canonicalHeader(name string) string { return http.CanonicalHeaderKey(name) }

// joinNames lists the keys of a map for people.
func joinNames[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
