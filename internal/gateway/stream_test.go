package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const eventStream = "text/event-stream; charset=utf-8"

var errReset = errors.New("connection reset by peer")

// However a provider's bytes arrive, the client gets the same ones, each read
// flushed by itself where it may be a stream.
func TestBytesPassAsTheyCome(t *testing.T) {
	var upstream roundTripper
	r := newRig(t, setup{upstream: roundTripper(func(req *http.Request) (*http.Response, error) { return upstream(req) })})
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom([]string{eventStream, "Text/Event-Stream", "application/json", ""}).Draw(rt, "type")
		known := rapid.Bool().Draw(rt, "length is known")
		slices_ := rapid.SliceOf(rapid.OneOf(
			rapid.StringMatching(`(data: [a-zé]{0,9}\r?\n|:\n|\n|event: x\r\n){1,4}`),
			rapid.StringN(1, 50, -1),
			rapid.SampledFrom([]string{"data: [DONE]\n\n", "\r\n\r\n", "\x00\xff", strings.Repeat("long", 20_000)}),
		)).Draw(rt, "slices")
		pieces := make([]piece, len(slices_))
		for i, text := range slices_ {
			pieces[i] = at(text)
		}
		want := strings.Join(slices_, "")
		upstream = func(req *http.Request) (*http.Response, error) {
			resp, err := streams(kind, nil, pieces...)(req)
			if known {
				resp.ContentLength = int64(len(want))
			}
			return resp, err
		}
		p, rec := newPage(), new(gateway.Record)
		if r.serve(p, r.chat(`{"model":"m","stream":true,"stream_options":{"include_usage":true}}`), rec) {
			rt.Fatal("aborted")
		}
		if p.text() != want {
			rt.Fatalf("got %q\nwant %q", p.text(), want)
		}
		events := strings.HasPrefix(strings.ToLower(kind), "text/event-stream")
		if ops := expectedOps(slices_, events, events || !known); !slices.Equal(p.ops, ops) {
			rt.Fatalf("did %q\nwant %q", p.ops, ops)
		}
		if rec.BytesOut != int64(len(want)) || rec.Outcome != gateway.OutcomeOK || !rec.Stream || (rec.FirstByte > 0) != (want != "") {
			rt.Fatalf("record %+v", rec)
		}
	})
}

func expectedOps(pieces []string, events, flushed bool) []string {
	ops := []string{"header 200"}
	if events {
		ops = append(ops, "flush")
	}
	for _, text := range pieces {
		for len(text) > 0 {
			n := min(len(text), 32<<10)
			ops = append(ops, fmt.Sprintf("write %d", n))
			if flushed {
				ops = append(ops, "flush")
			}
			text = text[n:]
		}
	}
	return ops
}

// dialects are the forms of an error event, by where a request goes.
var dialects = []struct {
	name, target, prefix string
	code                 func(event map[string]any) any
}{
	{"OpenAI", chatPath, "data: ", func(e map[string]any) any { return e["error"].(map[string]any)["code"] }},
	{"Responses", "/v1/responses", "event: error\ndata: ", func(e map[string]any) any { return e["code"] }},
	{"Anthropic", "/anthropic/v1/messages", "event: error\ndata: ", func(e map[string]any) any { return e["error"].(map[string]any)["code"] }},
	{"Gemini", "/gemini/v1beta/models/m:streamGenerateContent?alt=sse", "data: ", func(e map[string]any) any {
		return e["error"].(map[string]any)["details"].([]any)[0].(map[string]any)["reason"]
	}},
}

func anthropicAndGemini() []provider.Config {
	key := secret.NewValue(sharedKey)
	return []provider.Config{{Name: "anthropic", APIKey: key}, {Name: "gemini", APIKey: key}}
}

// A stream that fails at any byte ends with an event that clients understand,
// and then abnormally.
func TestBrokenStreams(t *testing.T) {
	const stream = "event: x\ndata: {\"a\":1}\n\ndata: é\r\n\r\n: ping\n\ndata: last\n\n"
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			for cut := range len(stream) + 1 {
				r := newRig(t, setup{others: anthropicAndGemini(), upstream: streams(eventStream, errReset, at(stream[:cut]))})
				a := r.do(r.request("POST", d.target, `{"model":"m","stream":true}`))
				rest, ok := strings.CutPrefix(a.Body.String(), stream[:cut])
				if !a.aborted || !ok {
					t.Fatalf("cut at %d: aborted %t, %q", cut, a.aborted, a.Body)
				}
				want := ""
				if cut > 0 && !strings.HasSuffix(stream[:cut], "\n\n") {
					want = "\n\n" // ends what was under way, which is not ours to complete
				}
				event, ok := strings.CutPrefix(rest, want+d.prefix)
				data, end := strings.CutSuffix(event, "\n\n")
				if !ok || !end || strings.Contains(data, "\n") {
					t.Fatalf("cut at %d: ends with %q", cut, rest)
				}
				var body map[string]any
				if err := json.Unmarshal([]byte(data), &body); err != nil || d.code(body) != apierr.UpstreamError {
					t.Errorf("cut at %d: event %s", cut, data)
				}
				if a.rec.Outcome != gateway.OutcomeUpstreamError || a.rec.Code != apierr.UpstreamError || a.rec.Status != 200 || a.rec.BytesOut != int64(cut) {
					t.Errorf("cut at %d: record %+v", cut, a.rec)
				}
				if strings.Contains(a.Body.String(), errReset.Error()) {
					t.Error("the client learned of our connections")
				}
			}
		})
	}
}

// A reset of HTTP/3 overtakes what was sent before it, so it waits for a moment,
// unless the client is gone.
func TestErrorEventOverHTTP3(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, setup{upstream: streams(eventStream, errReset, at("data: a\n\n"))})
			ctx, leave := cancelAfter(t, time.Millisecond)
			defer leave()
			req := r.chat(`{"model":"m"}`)
			if req.ProtoMajor = 3; leaves {
				req = req.WithContext(ctx)
			}
			a := r.do(req)
			if !a.aborted || !strings.Contains(a.Body.String(), apierr.UpstreamError) || leaves != (a.rec.Latency == time.Millisecond) || a.rec.Latency > time.Second {
				t.Errorf("leaves %t: aborted %t after %v, %q", leaves, a.aborted, a.rec.Latency, a.Body)
			}
		})
	}
}

// Other bodies get no event: it would be part of the JSON.
func TestBrokenBodies(t *testing.T) {
	for name, upstream := range map[string]roundTripper{
		"unknown length": streams("application/json", errReset, at(`[{"a":1},`)),
		"with a length": func(req *http.Request) (*http.Response, error) {
			resp, err := streams("application/json", io.ErrUnexpectedEOF, at(`[{"a":1},`))(req)
			resp.ContentLength = 100
			return resp, err
		},
		"no type": streams("", errReset, at(`[{"a":1},`)),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{upstream: upstream})
			a := r.do(r.chat(`{"model":"m"}`))
			if !a.aborted || a.Body.String() != `[{"a":1},` || a.rec.Outcome != gateway.OutcomeUpstreamError || a.rec.Code != apierr.UpstreamError {
				t.Errorf("aborted %t, %q, %+v", a.aborted, a.Body, a.rec)
			}
		})
	}
}

// An answer that fails before its first byte to the client is an error like any
// other, without the transport's words.
func TestNoAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"refused": {errors.New("dial tcp 10.0.0.1:443: connection refused, key " + sharedKey), 502, apierr.UpstreamError},
		"EOF":     {io.EOF, 502, apierr.UpstreamError},
		"timeout": {timeout{}, 504, apierr.UpstreamTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{})
			r.upstream.answer = func(*http.Request) (*http.Response, error) { return nil, tc.err }
			a := r.do(r.chat(`{"model":"m"}`))
			r.wantError(a, tc.status, tc.code)
			if a.aborted || a.rec.Outcome != gateway.OutcomeUpstreamError || a.rec.Attempts != 1 {
				t.Errorf("aborted %t, record %+v", a.aborted, a.rec)
			}
			if strings.Contains(a.Body.String(), tc.err.Error()) || !strings.Contains(r.log.String(), "request failed") {
				t.Errorf("client: %s, log: %s", a.Body, r.log)
			}
		})
	}
}

type timeout struct{}

func (timeout) Error() string   { return "i/o timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func TestTrailers(t *testing.T) {
	r := newRig(t, setup{upstream: roundTripper(func(*http.Request) (*http.Response, error) {
		resp := reply(http.StatusOK, "application/json", "{}")
		resp.ContentLength = -1
		resp.Trailer = http.Header{"X-Checksum": nil, "Grpc-Status": nil}
		resp.Body = &script{pieces: []piece{at("{}")}}
		resp.Trailer["X-Checksum"], resp.Trailer["Grpc-Status"] = []string{"abc"}, []string{"0"}
		return resp, nil
	})})
	a := r.do(r.chat(`{"model":"m"}`))
	r.wantOK(a, "{}")
	got := a.Result()
	defer func() { _ = got.Body.Close() }()
	if got.Header.Get("Trailer") != "Grpc-Status, X-Checksum" || got.Trailer.Get("X-Checksum") != "abc" || got.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("announced %q, trailer %v", got.Header.Get("Trailer"), got.Trailer)
	}
	if got.Header.Get("X-Checksum") != "" {
		t.Error("a trailer came as a header")
	}
}
