package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestStreamBytes sends a stream in random slices, within lines, characters and
// line ends, and compares what arrives.
func TestStreamBytes(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(": a comment\r\n\r\nevent: x\r\ndata: é😀 ü\r\nid: 1\r\n\r\ndata: one\ndata: two\r\rretry: 5\n\n\n\n")
	for i := range 200 {
		fmt.Fprintf(&b, "data: {\"usage\":null,\"i\":%d,\"text\":\"äöü€😀\"}\n\n", i)
	}
	fmt.Fprintf(&b, "data: %s\n\ndata: [DONE]\n\ndata: no end", strings.Repeat("0123456789abcdef", 1<<16))
	want := b.String()
	rng := rand.New(rand.NewPCG(1, 2))
	slices := make([][]string, 0, 3)
	for range 3 {
		var cuts []string
		for rest := want; rest != ""; {
			n := min(len(rest), 1+rng.IntN(1+rng.IntN(9000)))
			cuts, rest = append(cuts, rest[:n]), rest[n:]
		}
		slices = append(slices, cuts)
	}
	provider := newScripted(t, func(c net.Conn, r *http.Request) bool {
		var n int
		fmt.Sscanf(r.URL.Path, "/v1/models/%d", &n)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Provider: Ä\r\n\r\n")
		for _, part := range slices[n] {
			if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", len(part), part); err != nil {
				return false
			}
		}
		_, err := io.WriteString(c, "0\r\n\r\n")
		return err == nil
	})
	p := start(t, site{providers: map[string]string{"openai": provider.url + "/v1"}})
	_, token := onlyOpenAI(t, p)
	for i, proto := range allProtocols {
		t.Run(string(proto), func(t *testing.T) {
			got := p.do(t, request{path: fmt.Sprintf("/v1/models/%d", i), token: token, proto: proto})
			if got.err != nil || sha256.Sum256([]byte(got.body)) != sha256.Sum256([]byte(want)) {
				t.Errorf("%d bytes, want %d: %v", len(got.body), len(want), got.err)
			}
			if got.header.Get("X-Provider") == "" {
				t.Error("the provider's header is gone")
			}
		})
	}
}

// onlyOpenAI makes a project and token where other providers are not configured.
func onlyOpenAI(t *testing.T, p *proxy) (projectID, token string) {
	t.Helper()
	project := p.manage(t, "POST", "projects", object{"name": t.Name(), "api_key": "sk-only-0123456789abcdef"})
	projectID = project["id"].(string)
	made := p.manage(t, "POST", "tokens", object{"project_id": projectID})
	return projectID, made["token"].(string)
}

// TestProviderAborts lets a provider break off its answer at many places. No
// client may take what came for complete.
func TestProviderAborts(t *testing.T) {
	t.Parallel()
	const sse = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	event := "data: {\"choices\":[]}\n\n"
	places := map[string]struct {
		answer string
		event  bool // the client gets an error event
	}{
		"after the header":     {sse, true},
		"after an event":       {sse + fmt.Sprintf("%x\r\n%s\r\n", len(event), event), true},
		"within an event":      {sse + "9\r\ndata: {\"c\r\n", true},
		"within a chunk":       {sse + "ff\r\ndata: {\"c", true},
		"within a chunk size":  {sse + fmt.Sprintf("%x\r\n%s\r\n", len(event), event) + "f", true},
		"after the end mark":   {sse + "e\r\ndata: [DONE]\n\n\r\n", true},
		"JSON with a length":   {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":", false},
		"JSON in chunks":       {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"id\":\r\n", false},
		"an error with length": {"HTTP/1.1 429 Too Many\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"error\":", false},
	}
	provider := newScripted(t, func(c net.Conn, r *http.Request) bool {
		name, kind, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/models/"), "/")
		io.WriteString(c, places[strings.ReplaceAll(name, "-", " ")].answer)
		if kind == "reset" {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		return false
	})
	p := start(t, site{providers: map[string]string{"openai": provider.url + "/v1"}})
	_, token := onlyOpenAI(t, p)
	for name, place := range places {
		for _, kind := range []string{"close", "reset"} {
			for _, proto := range allProtocols {
				t.Run(name+"/"+kind+"/"+string(proto), func(t *testing.T) {
					r := request{path: "/v1/models/" + strings.ReplaceAll(name, " ", "-") + "/" + kind, token: token, proto: proto}
					got, err := p.try(t, r)
					if err != nil && (!place.event || proto == h3) {
						return // nothing had been sent on yet, and the client knows that it failed
					}
					if err != nil {
						t.Fatal(err)
					}
					if got.status == http.StatusBadGateway && kind == "reset" {
						openAIDialect.refused(t, got, http.StatusBadGateway, "upstream_error") // the reset overtook the header
						return
					}
					if got.err == nil {
						t.Errorf("the answer seems complete: %q", got.body)
					}
					if !place.event {
						if strings.Contains(got.body, "upstream_error") {
							t.Errorf("an error within JSON: %q", got.body)
						}
						return
					}
					if proto == h3 {
						return // a reset of QUIC may overtake what was sent before it
					}
					if problem, err := openAIDialect.read(lastEvent(got.body)); err != nil || problem.code != "upstream_error" {
						t.Errorf("last event %q: %v", got.body, err)
					}
				})
			}
		}
	}
}

// TestAbortDialects has each dialect's stream end in its own error event.
func TestAbortDialects(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	a := p.account(t)
	for _, d := range allDialects {
		for _, proto := range allProtocols {
			t.Run(string(d)+"/"+string(proto), func(t *testing.T) {
				r := d.ask(string(d), a.token, "sim-abort", true)
				r.proto = proto
				got, err := p.try(t, r)
				if err == nil && got.err == nil {
					t.Error("the stream seems complete")
				}
				if proto == h3 {
					return // a reset of QUIC may overtake what was sent before it
				}
				if err != nil {
					t.Fatal(err)
				}
				if problem, err := d.read(lastEvent(got.body)); err != nil || problem.code != "upstream_error" {
					t.Errorf("last event %q: %v", lastEvent(got.body), err)
				}
				if d == anthropicDialect && !strings.Contains(got.body, "\n\nevent: error\ndata: ") {
					t.Errorf("no error event: %q", got.body)
				}
			})
		}
	}
	t.Run("responses", func(t *testing.T) {
		got := p.do(t, request{path: "/v1/responses", token: a.token, body: `{"model":"sim-abort","input":"hi","stream":true}`})
		if got.err == nil || !strings.Contains(got.body, "event: error\ndata: {\"type\":\"error\",\"code\":\"upstream_error\"") {
			t.Errorf("%v: %q", got.err, got.body)
		}
	})
}

// TestClientLeaves checks that a provider is told when its client has gone.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		sim := serveProvider(t, simulator.Options{}, secure)
		p := start(t, against(sim), "SSL_CERT_FILE="+sim.caFile)
		a := p.account(t)
		for _, proto := range allProtocols {
			t.Run(fmt.Sprintf("TLS %t/%s", secure, proto), func(t *testing.T) {
				before := sim.Stats()
				ctx, leave := context.WithCancel(bounded(t))
				defer leave()
				r := chat(a.token, "sim-chunks-50+silent-1h", true)
				r.proto = proto
				resp := p.open(t, ctx, r)
				if _, err := io.ReadFull(resp.Body, make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
				leave()
				eventually(t, "the stream is cancelled", func() bool { return sim.Stats().CancelledStreams == before.CancelledStreams+1 })

				ctx, leave = context.WithCancel(bounded(t))
				defer leave()
				r = chat(a.token, "sim-hang", false)
				r.proto = proto
				done := make(chan struct{})
				go func() {
					defer close(done)
					if resp, err := p.client(proto).Do(p.build(t, ctx, r)); err == nil {
						resp.Body.Close()
					}
				}()
				eventually(t, "the request is there", func() bool { return sim.Stats().Requests >= before.Requests+2 })
				leave()
				<-done
				eventually(t, "the request is cancelled", func() bool { return sim.Stats().CancelledRequests == before.CancelledRequests+1 })
			})
		}
		if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[secure]; sim.last(t, a.key).proto != want {
			t.Errorf("the provider was spoken to in %s, want %s", sim.last(t, a.key).proto, want)
		}
	}
}
