package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

const (
	goodModel = `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}`
	evilModel = `{"model":"o3-pro","messages":[{"role":"user","content":"hi"}]}`
	jsonType  = "Content-Type: application/json\n"
	maxBody   = 256 << 10
)

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func form(fields ...string) string {
	var b strings.Builder
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&b, "--xyz\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n", fields[i], fields[i+1])
	}
	return b.String() + "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--xyz--\r\n"
}

// TestBodyTricks sends bodies to a token that may use gpt-4o* only. None that a
// provider might read as another model may reach it.
func TestBodyTricks(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.handler = fmt.Sprintf("max_body %d", maxBody)
	p := start(t, s)
	a := p.account(t, object{"allowed_models": []string{"gpt-4o*"}})
	const multi = "Content-Type: multipart/form-data; boundary=xyz\n"
	const transcribe = "/v1/audio/transcriptions"
	for _, c := range []struct {
		name, path, head, body string
		chunk                  int // size of chunks; 0: with a length
		status                 int
		code                   string
	}{
		{name: "another model", head: jsonType, body: evilModel, status: 403, code: "model_not_allowed"},
		{name: "charset", head: "Content-Type: application/json; charset=utf-8\n", body: evilModel, status: 403, code: "model_not_allowed"},
		{name: "text/plain", head: "Content-Type: text/plain\n", body: evilModel, status: 403, code: "model_not_allowed"},
		{name: "form type", head: "Content-Type: application/x-www-form-urlencoded\n", body: evilModel, status: 403, code: "model_not_allowed"},
		{name: "multipart type", head: multi, body: evilModel, status: 403, code: "model_not_allowed"},
		{name: "no type", body: evilModel, status: 403, code: "model_not_allowed"},
		{name: "chunked", head: jsonType, body: evilModel, chunk: 5, status: 403, code: "model_not_allowed"},
		{name: "escaped name", head: jsonType, body: `{"\u006dodel":"o3-pro"}`, status: 403, code: "model_not_allowed"},
		{name: "escaped value", head: jsonType, body: `{"model":"\u006f3-pro"}`, status: 403, code: "model_not_allowed"},
		{name: "empty model", head: jsonType, body: `{"model":""}`, status: 403, code: "model_not_allowed"},
		{name: "nothing", head: jsonType, status: 403, code: "model_not_allowed"},
		{name: "empty object", head: jsonType, body: `{}`, status: 403, code: "model_not_allowed"},
		{name: "model in the query", path: "/v1/chat/completions?model=o3-pro", head: jsonType, body: goodModel, status: 403, code: "model_not_allowed"},
		{name: "models in the query", path: "/v1/chat/completions?model=gpt-4o&model=o3", head: jsonType, body: goodModel, status: 400, code: "param_not_allowed"},
		{name: "repeated", head: jsonType, body: `{"model":"gpt-4o","model":"o3-pro"}`, status: 400, code: "invalid_json"},
		{name: "repeated, escaped", head: jsonType, body: `{"model":"gpt-4o","m\u006fdel":"o3-pro"}`, status: 400, code: "invalid_json"},
		{name: "Model", head: jsonType, body: `{"Model":"o3-pro"}`, status: 400, code: "invalid_json"},
		{name: "MODEL beside model", head: jsonType, body: `{"model":"gpt-4o","MODEL":"o3-pro"}`, status: 400, code: "invalid_json"},
		{name: "Kelvin-like fold", head: jsonType, body: `{"model":"gpt-4o","\u017ftream":true}`, status: 400, code: "invalid_json"},
		{name: "trailing object", head: jsonType, body: goodModel + evilModel, status: 400, code: "invalid_json"},
		{name: "trailing byte", head: jsonType, body: goodModel + "\x00", status: 400, code: "invalid_json"},
		{name: "byte order mark", head: jsonType, body: "\ufeff" + goodModel, status: 400, code: "invalid_json"},
		{name: "array", head: jsonType, body: "[" + evilModel + "]", status: 400, code: "invalid_json"},
		{name: "string", head: jsonType, body: `"model"`, status: 400, code: "invalid_json"},
		{name: "cut", head: jsonType, body: goodModel[:len(goodModel)-1], status: 400, code: "invalid_json"},
		{name: "comment", head: jsonType, body: `{/*"model":"gpt-4o",*/"model":"o3"}`, status: 400, code: "invalid_json"},
		{name: "single quotes", head: jsonType, body: `{'model':'o3'}`, status: 400, code: "invalid_json"},
		{name: "model array", head: jsonType, body: `{"model":["gpt-4o","o3"]}`, status: 400, code: "invalid_json"},
		{name: "model null", head: jsonType, body: `{"model":null}`, status: 400, code: "invalid_json"},
		{name: "model number", head: jsonType, body: `{"model":4}`, status: 400, code: "invalid_json"},
		{name: "gzip", head: jsonType + "Content-Encoding: gzip\n", body: gzipped(t, evilModel), status: 400, code: "invalid_json"},
		{name: "gzip, undeclared", head: jsonType, body: gzipped(t, evilModel), status: 400, code: "invalid_json"},
		{name: "stacked encodings", head: jsonType + "Content-Encoding: identity\nContent-Encoding: gzip\n", body: gzipped(t, evilModel), status: 400, code: "invalid_json"},
		{name: "identity, br", head: jsonType + "Content-Encoding: identity, br\n", body: goodModel, status: 400, code: "invalid_json"},
		{name: "UTF-16", head: "Content-Type: application/json; charset=utf-16\n", body: "\xfe\xff\x00{\x00}", status: 400, code: "invalid_json"},
		{name: "invalid UTF-8", head: jsonType, body: "{\"model\":\"gpt-4o\",\"user\":\"\xff\"}", status: 400, code: "invalid_json"},
		{name: "deep", head: jsonType, body: `{"model":"gpt-4o","x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, status: 400, code: "invalid_json"},
		{name: "too long", head: jsonType, body: goodModel + strings.Repeat(" ", maxBody), status: 413, code: "request_too_large"},
		{name: "too long, chunked", head: jsonType, body: goodModel + strings.Repeat(" ", maxBody), chunk: 16 << 10, status: 413, code: "request_too_large"},
		{name: "form", path: transcribe, head: multi, body: form("model", "o3-pro"), status: 403, code: "model_not_allowed"},
		{name: "form, repeated", path: transcribe, head: multi, body: form("model", "gpt-4o-transcribe", "model", "o3"), status: 400, code: "invalid_json"},
		{name: "form, MODEL", path: transcribe, head: multi, body: form("model", "gpt-4o-transcribe", "MODEL", "o3"), status: 400, code: "invalid_json"},
		{name: "form, two names", path: transcribe, head: multi, body: form("x; name*=utf-8''model", "o3"), status: 400, code: "invalid_json"},
		{name: "form without model", path: transcribe, head: multi, body: form("language", "de"), status: 403, code: "model_not_allowed"},
		{name: "responses", path: "/v1/responses", head: jsonType, body: `{"model":"o3-pro","input":"hi"}`, status: 403, code: "model_not_allowed"},
		{name: "responses without model", path: "/v1/responses", head: jsonType, body: `{"input":"hi"}`, status: 403, code: "model_not_allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := sim.count()
			got := p.raw(t, postHead(c.path, a.token, c.head, c.body, c.chunk), wireBody(c.body, c.chunk))
			openAIDialect.refused(t, got, c.status, c.code)
			sim.untouched(t, before)
		})
	}
}

func postHead(path, token, head, body string, chunk int) string {
	if path == "" {
		path = "/v1/chat/completions"
	}
	framing := fmt.Sprintf("Content-Length: %d\n", len(body))
	if chunk > 0 {
		framing = "Transfer-Encoding: chunked\n"
	}
	return "POST " + path + " HTTP/1.1\nHost: localhost\nAuthorization: Bearer " + token + "\n" + head + framing
}

func wireBody(body string, chunk int) string {
	if chunk > 0 {
		return chunked(body, chunk)
	}
	return body
}

// TestBodiesPassUnchanged holds what reaches the provider against what was
// sent, byte for byte.
func TestBodiesPassUnchanged(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.handler = fmt.Sprintf("max_body %d", maxBody)
	p := start(t, s)
	restricted := p.account(t, object{"allowed_models": []string{"gpt-4o*"}})
	free := p.account(t)
	for _, c := range []struct {
		name, path, head, body string
		chunk                  int
		a                      *account
	}{
		{name: "plain", head: jsonType, body: goodModel, a: restricted},
		{name: "charset", head: "Content-Type: application/json; charset=utf-8\n", body: goodModel, a: restricted},
		{name: "text/plain", head: "Content-Type: text/plain\n", body: goodModel, a: restricted},
		{name: "no type", body: goodModel, a: restricted},
		{name: "chunked", head: jsonType, body: goodModel, chunk: 3, a: restricted},
		{name: "white space", head: jsonType, body: "\r\n\t " + strings.ReplaceAll(goodModel, ":", " :\n ") + " \n", a: restricted},
		{name: "unusual spelling", head: jsonType, body: `{"messages":[],"n":1.0e+0,"user":"\u00e9\/é😀","seed":12345678901234567890,"model":"gpt\u002d4o"}`, a: restricted},
		{name: "nested members", head: jsonType, body: `{"model":"gpt-4o","metadata":{"model":"o3","model":"o1","Model":1},"tools":[{"model":"x"}]}`, a: restricted},
		{name: "lone surrogate", head: jsonType, body: `{"model":"gpt-4o","user":"\ud800"}`, a: restricted},
		{name: "as long as allowed", head: jsonType, body: goodModel + strings.Repeat(" ", maxBody-len(goodModel)), a: restricted},
		{name: "as long as allowed, chunked", head: jsonType, body: goodModel + strings.Repeat(" ", maxBody-len(goodModel)), chunk: 999, a: restricted},
		{name: "identity", head: jsonType + "Content-Encoding: identity\n", body: goodModel, a: restricted},
		{name: "form", path: "/v1/audio/transcriptions", head: "Content-Type: multipart/form-data; boundary=xyz\n", body: form("model", "gpt-4o-transcribe"), a: restricted},
		{name: "no rule, array", head: jsonType, body: "[1,2,3]", a: free},
		{name: "no rule, not JSON", head: jsonType, body: "\ufeff{]\x00\xff", a: free},
		{name: "no rule, trailing bytes", head: jsonType, body: goodModel + "garbage", a: free},
		{name: "no rule, form streamed", path: "/v1/audio/transcriptions", head: "Content-Type: multipart/form-data; boundary=xyz\n", body: form("model", strings.Repeat("x", 2*maxBody)), chunk: 4096, a: free},
		{name: "no rule, form with length", path: "/v1/files", head: "Content-Type: multipart/form-data; boundary=xyz\n", body: form("purpose", "batch"), a: free},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := sim.count()
			got := p.raw(t, postHead(c.path, c.a.token, c.head, c.body, c.chunk), wireBody(c.body, c.chunk))
			if sim.count() != before+1 {
				t.Fatalf("%d requests reached the provider; answer %d %s", sim.count()-before, got.status, got.body)
			}
			seen := sim.last(t, c.a.key)
			if seen.bytes != int64(len(c.body)) || seen.sum != sha256.Sum256([]byte(c.body)) {
				t.Errorf("sent %d bytes, the provider read %d, or others", len(c.body), seen.bytes)
			}
			if got.status == http.StatusBadGateway {
				t.Errorf("answer %s", got.body)
			}
		})
	}
}
