package httpcache_test

import (
	"net/url"
	"slices"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// RFC 9111, 4.4.
func TestInvalidates(t *testing.T) {
	t.Parallel()
	target := "https://api.example.com/v1/files/a?b=c"
	for _, test := range []struct {
		name   string
		method string
		status int
		resp   lines
		want   []string
	}{
		{"DELETE", "DELETE", 200, nil, []string{"/v1/files/a?b=c"}},
		{"POST, created elsewhere", "POST", 201, lines{"Location: /v1/files/b"}, []string{"/v1/files/a?b=c", "/v1/files/b"}},
		{"relative", "PUT", 204, lines{"Content-Location: x?y"}, []string{"/v1/files/a?b=c", "/v1/files/x?y"}},
		{"absolute, port written out", "PUT", 303, lines{"Location: HTTPS://API.example.com:443/z"}, []string{"/v1/files/a?b=c", "/z"}},
		{"both", "PATCH", 200, lines{"Location: /l", "Content-Location: /c"}, []string{"/v1/files/a?b=c", "/l", "/c"}},
		{"both the same", "PATCH", 200, lines{"Location: /l", "Content-Location: /l"}, []string{"/v1/files/a?b=c", "/l"}},
		{"itself", "PUT", 200, lines{"Content-Location: /v1/files/a?b=c"}, []string{"/v1/files/a?b=c"}},
		{"another host", "PUT", 200, lines{"Location: https://evil.example.com/v1/models"}, []string{"/v1/files/a?b=c"}},
		{"another scheme", "PUT", 200, lines{"Location: http://api.example.com/v1/models"}, []string{"/v1/files/a?b=c"}},
		{"another port", "PUT", 200, lines{"Location: https://api.example.com:8443/v1/models"}, []string{"/v1/files/a?b=c"}},
		{"no address", "PUT", 200, lines{"Location: ://%zz", "Content-Location: mailto:a@example.com"}, []string{"/v1/files/a?b=c"}},
		{"unknown methods are unsafe", "M-SEARCH", 200, nil, []string{"/v1/files/a?b=c"}},
		{"a failure", "DELETE", 404, nil, nil},
		{"an interim answer", "PUT", 100, nil, nil},
		{"safe methods", "GET", 200, lines{"Location: /l"}, nil},
		{"HEAD", "HEAD", 200, nil, nil},
		{"OPTIONS", "OPTIONS", 200, nil, nil},
		{"TRACE", "TRACE", 200, nil, nil},
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := httpcache.Invalidates(test.method, test.status, header(test.resp...), u); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
