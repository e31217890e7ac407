package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func withGlobs(globs ...string) *Gateway { return &Gateway{forwardGlobs: globs} }

// What CONTRACT 3.2 lets through, in canonical form.
var allowedHeaders = []string{
	"Content-Type", "Content-Language", "Content-Disposition", "Content-Md5", "Content-Digest", "Content-Range",
	"Accept", "Accept-Language", "Accept-Charset",
	"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
	"Cache-Control", "User-Agent", "Idempotency-Key", "Openai-Beta",
	"Anthropic-Version", "Anthropic-Beta", "Anthropic-Dangerous-Direct-Browser-Access",
	"X-Stainless-Lang", "X-Stainless-Retry-Count", "X-Claude-Code-Session-Id", "X-Goog-Api-Client", "X-Goog-Request-Params",
	"X-Goog-Upload-Protocol",
}

// What no configuration lets through.
var forbiddenHeaders = []string{
	"Authorization", "Proxy-Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Goog-Iam-Authorization-Token", "Cookie", "Cookie2", "Set-Cookie",
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Client-Cert", "X-Forwarded", "Forwarded", "Forwarded-For", "Via",
	"X-Real-Ip", "X-Client-Ip", "Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Cf-Ipcountry", "Fastly-Client-Ip", "Fly-Client-Ip",
	"X-Cluster-Client-Ip", "X-Original-Forwarded-For", "X-Remote-Ip", "X-Remote-Addr", "X-Envoy-External-Address", "X-Azure-Clientip", "X-Appengine-User-Ip",
	"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Proxy-Authenticate",
	"Host", "Content-Length", "Content-Encoding", "Expect", "Early-Data", "Alt-Used",
	"Sec-Fetch-Site", "Sec-Websocket-Key", "Sec-Websocket-Protocol", "Sec-Ch-Ua", "X-Llm-Proxy-User", "X-Llm-Proxy-Anything", ":protocol",
}

// Others reach the provider only where the operator says so.
var optionalHeaders = []string{"Openai-Organization", "Openai-Project", "X-Custom", "Traceparent", "Referer", "Origin", "Accept-Ranges", "Anthropic", "X-Goog"}

func TestOutboundHeaderIsAnAllowList(t *testing.T) {
	in := make(http.Header)
	for _, name := range slices.Concat(allowedHeaders, forbiddenHeaders, optionalHeaders) {
		in[name] = []string{"value of " + name}
	}
	in["Connection"] = []string{"close"}
	for _, tc := range []struct {
		name     string
		gateway  *Gateway
		optional []string
	}{
		{"default", withGlobs(), nil},
		{"organisation", withGlobs("openai-organization", "openai-project"), []string{"Openai-Organization", "Openai-Project"}},
		{"glob", withGlobs("x-c*", "trace*nt"), []string{"X-Custom", "Traceparent"}},
		{"one character", withGlobs("x-custo?"), []string{"X-Custom"}},
		{"everything", withGlobs("*"), optionalHeaders},
		{"by name", withGlobs(slices.Collect(lower(forbiddenHeaders))...), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := clone(in)
			out := tc.gateway.outboundHeader(in, false)
			if !maps.EqualFunc(before, in, slices.Equal[[]string]) {
				t.Error("the client's header was changed")
			}
			if !slices.Equal(out["Accept-Encoding"], identity) {
				t.Errorf("Accept-Encoding %q", out["Accept-Encoding"])
			}
			delete(out, "Accept-Encoding")
			want := make(http.Header)
			for _, name := range slices.Concat(allowedHeaders, tc.optional) {
				want[name] = in[name]
			}
			for name := range out {
				if want[name] == nil {
					t.Errorf("%s reached the provider", name)
				}
			}
			for name, values := range want {
				if !slices.Equal(out[name], values) {
					t.Errorf("%s: %q, want %q", name, out[name], values)
				}
			}
		})
	}
}

func lower(names []string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, name := range names {
			if !yield(strings.ToLower(name)) {
				return
			}
		}
	}
}

func clone(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, values := range h {
		out[name] = slices.Clone(values)
	}
	return out
}

func TestOutboundHeaderEncodings(t *testing.T) {
	in := http.Header{"Accept-Encoding": {"gzip, br"}, "Content-Encoding": {"gzip"}}
	out := withGlobs("*").outboundHeader(in, false)
	if _, ok := out["Content-Encoding"]; ok || out.Get("Accept-Encoding") != "identity" {
		t.Errorf("JSON: %q", out)
	}
	if out = withGlobs().outboundHeader(in, true); out.Get("Content-Encoding") != "gzip" || out.Get("Accept-Encoding") != "identity" {
		t.Errorf("upload: %q", out)
	}
	if in.Get("Accept-Encoding") != "gzip, br" {
		t.Error("the client's header was changed")
	}
}

func TestOutboundHeaderDropsWhatConnectionLists(t *testing.T) {
	for name, tc := range map[string]struct {
		connection []string
		dropped    []string
	}{
		"one":                {[]string{"accept"}, []string{"Accept"}},
		"several":            {[]string{"keep-alive, ACCEPT ,\tuser-agent,,"}, []string{"Accept", "User-Agent"}},
		"two lines":          {[]string{"Accept", "anthropic-version"}, []string{"Accept", "Anthropic-Version"}},
		"the credential too": {[]string{"Authorization"}, nil},
		"none":               {[]string{"close, Acceptx, accept user-agent"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := http.Header{"Accept": {"a"}, "User-Agent": {"u"}, "Anthropic-Version": {"v"}, "Connection": tc.connection}
			out := withGlobs("*").outboundHeader(in, false)
			for _, name := range []string{"Accept", "User-Agent", "Anthropic-Version"} {
				if gone := len(out[name]) == 0; gone != slices.Contains(tc.dropped, name) {
					t.Errorf("%s: %q with Connection %q", name, out[name], tc.connection)
				}
			}
		})
	}
}

// Without a User-Agent of the client's there is none: net/http adds its own
// unless the key is there.
func TestOutboundHeaderHasNoUserAgentOfOurs(t *testing.T) {
	out := withGlobs().outboundHeader(http.Header{}, false)
	if values, ok := out["User-Agent"]; !ok || len(values) != 0 {
		t.Errorf("User-Agent %q, %t", values, ok)
	}
}

func TestCopyResponseHeader(t *testing.T) {
	src := http.Header{
		"Content-Type": {"text/event-stream"}, "X-Request-Id": {"up-1"}, "Set-Cookie": {"a=1", "b=2"}, "X-Ratelimit-Remaining-Requests": {"9"},
		"Content-Length": {"3"}, "Etag": {`"x"`}, "Content-Encoding": {"gzip"}, "Location": {"https://elsewhere"}, "Openai-Organization": {"org"},
		"X-Hop": {"1"}, "Connection": {"x-hop, close"}, "Keep-Alive": {"timeout=5"}, "Transfer-Encoding": {"chunked"}, "Te": {"trailers"},
		"Trailer": {"X-End"}, "Upgrade": {"h2c"}, "Proxy-Authenticate": {"Basic"}, "Proxy-Connection": {"close"},
		"Alt-Svc": {`h3=":443"`}, "Strict-Transport-Security": {"max-age=1"}, "X-Llm-Proxy-Provider": {"forged"},
	}
	dropped := []string{
		"X-Hop", "Connection", "Keep-Alive", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Proxy-Authenticate", "Proxy-Connection",
		"Alt-Svc", "Strict-Transport-Security", "X-Llm-Proxy-Provider",
	}
	dst := http.Header{"Server": {"Caddy"}, "Etag": {"ours"}}
	copyResponseHeader(dst, src)
	want := clone(src)
	for _, name := range dropped {
		delete(want, name)
	}
	want["Server"] = []string{"Caddy"}
	if !maps.EqualFunc(dst, want, slices.Equal[[]string]) {
		t.Errorf("got  %q\nwant %q", dst, want)
	}
}

func TestListsToken(t *testing.T) {
	for _, tc := range []struct {
		lines []string
		want  bool
	}{
		{nil, false}, {[]string{""}, false}, {[]string{"upgrade"}, true}, {[]string{"a, UPGRADE"}, true}, {[]string{"a", " upgrade\t"}, true},
		{[]string{"upgrades"}, false}, {[]string{"up grade"}, false}, {[]string{`"upgrade"`}, false},
	} {
		if got := listsToken(tc.lines, "Upgrade"); got != tc.want {
			t.Errorf("%q: %t, want %t", tc.lines, got, tc.want)
		}
	}
}

// TestOutboundFields: what the cache looks up one by one is what is sent.
func TestOutboundFields(t *testing.T) {
	g := withGlobs("x-team-*", "traceparent")
	names := []string{
		"Accept", "Accept-Encoding", "Authorization", "Anthropic-Version", "Connection", "Content-Encoding", "Cookie", "Openai-Beta",
		"Traceparent", "User-Agent", "X-Forwarded-For", "X-Llm-Proxy-Attempts", "X-Stainless-Lang", "X-Team-Id", "X-Unknown",
	}
	rapid.Check(t, func(t *rapid.T) {
		in := make(http.Header)
		for _, name := range rapid.SliceOf(rapid.SampledFrom(names)).Draw(t, "names") {
			value := "v"
			if name == "Connection" {
				value = rapid.SampledFrom(names).Draw(t, "listed") + ", close"
			}
			in[name] = append(in[name], value)
		}
		upload := rapid.Bool().Draw(t, "upload")
		sent := g.outboundHeader(in, upload)
		view := outboundFields{g, in, upload}
		for _, name := range names {
			if got, want := view.Values(name), sent[name]; !slices.Equal(got, want) {
				t.Errorf("%s is %q, but %q is sent", name, got, want)
			}
		}
	})
}
