package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// statusNext is what the site answers when a request is not the proxy's.
const statusNext = http.StatusTeapot

// TestPathTricks sends targets that two parsers might read differently. Each
// must be refused, be another handler's, or reach the provider in one form.
func TestPathTricks(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.routes = "route {\n\tllm_proxy\n\tllm_proxy_admin\n\trespond 418\n}"
	p := start(t, s)
	a := p.account(t)
	const refused, bad = http.StatusNotFound, http.StatusBadRequest
	for _, c := range []struct {
		target string
		status int
		uri    string // what the provider must see
	}{
		{"/v1/models/../organization/projects", refused, ""},
		{"/v1/models/..", refused, ""},
		{"/v1/./models", refused, ""},
		{"/v1/models/%2e%2e/organization/projects", refused, ""},
		{"/v1/models/%2E%2E/fine_tuning/jobs", refused, ""},
		{"/v1/models/.%2e/organization", refused, ""},
		{"/v1/models/%252e%252e/organization", refused, ""},
		{"/v1/files/..%2f..%2fdashboard/billing", refused, ""},
		{"/v1%2forganization", refused, ""},
		{"/v1/files/..%5cadmin", refused, ""},
		{`/v1/files\..\..\admin`, refused, ""},
		{"/v1/models;/x", refused, ""},
		{"/v1/models/;/x", refused, ""},
		{"/v1/models/%3b/x", refused, ""},
		{"/v1/models%00", refused, ""},
		{"/v1/models/gpt-4o%00.txt", refused, ""},
		{"/v1/models/%0d%0aX-Evil:%201", refused, ""},
		{"/v1/models/%c3%a9", refused, ""},
		{"/v1/models/é", refused, ""},
		{"/v1/modelsXYZ", refused, ""},
		{"/v1/MODELS", refused, ""},
		{"/v1/organization/projects", refused, ""},
		{"/%76%31/models/../x", refused, ""},
		{"/openai/../v1/models", refused, ""},
		{"/openai/%2e%2e/organization", refused, ""},
		{"/openai/v1/../organization", refused, ""},
		{"%2fv1/models", bad, ""},
		{"/v1/models/%zz", bad, ""},
		{"/V1/models", statusNext, ""},
		{"/v1", statusNext, ""},
		{"/v11/models", statusNext, ""},
		{"/x/../v1/models", statusNext, ""},
		{"/other", statusNext, ""},
		{"/v1/models", http.StatusOK, "/v1/models"},
		{"//v1//models", http.StatusOK, "/v1/models"},
		{"/v1/%6dodels", http.StatusOK, "/v1/models"},
		{"/%76%31/models", http.StatusOK, "/v1/models"},
		{"/openai/v1/models", http.StatusOK, "/v1/models"},
		{"/openai/models", http.StatusOK, "/v1/models"},
		{"/v1/models/gpt%2D4o", http.StatusOK, "/v1/models/gpt-4o"},
		{"/v1/models/ft:gpt%3Ax", http.StatusOK, "/v1/models/ft:gpt%3Ax"},
		{"/v1/models/a%20b", http.StatusOK, "/v1/models/a%20b"},
		{"/v1/models/a%3fb%23c", http.StatusOK, "/v1/models/a%3Fb%23c"},
		{"/v1/models?limit=2&x=%2F..", http.StatusOK, "/v1/models?limit=2&x=%2F.."},
		{p.url + "/v1/models", http.StatusOK, "/v1/models"},
	} {
		t.Run(c.target, func(t *testing.T) {
			before := sim.count()
			got := p.raw(t, "GET "+c.target+" HTTP/1.1\nHost: localhost\nAuthorization: Bearer "+a.token+"\n", "")
			if got.status != c.status {
				t.Errorf("status %d, want %d: %s", got.status, c.status, got.body)
			}
			if c.status == refused {
				openAIDialect.refused(t, got, refused, "endpoint_not_found")
			}
			if c.uri == "" {
				sim.untouched(t, before)
				return
			}
			if seen := sim.last(t, a.key); sim.count() != before+1 || seen.uri != c.uri {
				t.Errorf("the provider saw %s, want %s", seen.uri, c.uri)
			}
		})
	}
}

// TestFramingTricks sends messages whose ends two parsers might see in
// different places.
func TestFramingTricks(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	a := p.account(t)
	body := chatBody("gpt-4o", false)
	post := "POST /v1/chat/completions HTTP/1.1\nHost: localhost\nContent-Type: application/json\nAuthorization: Bearer " + a.token + "\n"
	for name, c := range map[string]struct {
		head, body string
		statuses   []int
	}{
		"two lengths":        {post + "Content-Length: 5\nContent-Length: 6\n", body, []int{400}},
		"signed length":      {post + "Content-Length: +18\n", body, []int{400}},
		"unknown encoding":   {post + "Transfer-Encoding: xchunked\n", body, []int{400, 501}},
		"stacked encoding":   {post + "Transfer-Encoding: gzip, chunked\n", body, []int{400, 501}},
		"two encodings":      {post + "Transfer-Encoding: chunked\nTransfer-Encoding: identity\n", chunked(body, 7), []int{400, 501}},
		"space before colon": {post + "Transfer-Encoding : chunked\n", chunked(body, 7), []int{400}},
		"bare LF in chunk":   {post + "Transfer-Encoding: chunked\n", "5\n{\"a\":\r\n0\r\n\r\n", []int{400}},
		"chunk cut short":    {post + "Transfer-Encoding: chunked\nConnection: close\n", "zz\r\n", []int{400}},
		"two hosts":          {post + "Host: evil.example.com\nContent-Length: 0\n", "", []int{400}},
		"NUL in a header":    {post + "X-Stainless-A: a\x00b\nContent-Length: 0\n", "", []int{400}},
		"foreign host":       {strings.Replace(post, "Host: localhost", "Host: evil.example.com", 1) + "Content-Length: 0\n", "", []int{200, 404, 421}},
		"CONNECT":            {strings.Replace(post, "POST /v1/chat/completions", "CONNECT localhost:443", 1), "", []int{200, 400, 404, 405}},
		"HTTP/0.9":           {strings.Replace(post, "HTTP/1.1", "HTTP/0.9", 1), "", []int{400, 505}},
	} {
		t.Run(name, func(t *testing.T) {
			before := sim.count()
			got := p.raw(t, c.head, c.body)
			ok := false
			for _, status := range c.statuses {
				ok = ok || status == got.status
			}
			if !ok {
				t.Errorf("status %d, want one of %v: %s", got.status, c.statuses, got.body)
			}
			sim.untouched(t, before)
		})
	}
	t.Run("length and chunks", func(t *testing.T) {
		before := sim.count()
		got := p.raw(t, post+"Content-Length: 5\nTransfer-Encoding: chunked\n", chunked(body, 7))
		if got.status == http.StatusBadRequest {
			sim.untouched(t, before)
			return
		}
		if seen := sim.last(t, a.key); got.status != http.StatusOK || seen.bytes != int64(len(body)) || sim.count() != before+1 {
			t.Errorf("status %d, the provider read %d bytes in %d requests", got.status, seen.bytes, sim.count()-before)
		}
	})
}
