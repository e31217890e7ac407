package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// protocol is how a client speaks with the proxy, always over TLS.
type protocol string

const (
	h1 protocol = "HTTP/1.1"
	h2 protocol = "HTTP/2.0"
	h3 protocol = "HTTP/3.0"
)

var allProtocols = []protocol{h1, h2, h3}

// client speaks exactly one protocol and follows no redirects. It is shared by
// all that ask for it.
func (p *proxy) client(proto protocol) *http.Client {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	client := p.clients[proto]
	if client == nil {
		client = p.freshClient(proto)
		if p.clients == nil {
			p.clients = make(map[protocol]*http.Client)
		}
		p.clients[proto] = client
	}
	return client
}

// freshClient is a client with connections of its own.
func (p *proxy) freshClient(proto protocol) *http.Client {
	p.t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", p.port)
	var rt http.RoundTripper
	switch proto {
	case h3:
		transport := &http3.Transport{
			TLSClientConfig: p.tlsConfig(),
			Dial: func(ctx context.Context, _ string, cfg *tls.Config, qc *quic.Config) (*quic.Conn, error) {
				return quic.DialAddrEarly(ctx, address, cfg, qc)
			},
		}
		p.t.Cleanup(func() { transport.Close() })
		rt = transport
	default:
		transport := &http.Transport{
			TLSClientConfig:    p.tlsConfig(),
			DisableCompression: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			},
			Protocols: new(http.Protocols),
		}
		transport.Protocols.SetHTTP1(proto == h1)
		transport.Protocols.SetHTTP2(proto == h2)
		p.t.Cleanup(transport.CloseIdleConnections)
		rt = transport
	}
	return &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request is one request in a table.
type request struct {
	method string // GET, or POST when there is a body
	path   string
	token  string // as bearer
	body   string
	header http.Header
	proto  protocol // h1 by default
}

// answer is a response that has been read.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
	err     error // the body did not end properly
}

// do sends a request and reads the answer.
func (p *proxy) do(t *testing.T, r request) answer {
	t.Helper()
	resp := p.open(t, bounded(t), r)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.Trailer, string(body), err}
}

// try is do for requests that may get no answer at all.
func (p *proxy) try(t *testing.T, r request) (answer, error) {
	t.Helper()
	resp, err := p.client(r.proto).Do(p.build(t, bounded(t), r))
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.Trailer, string(body), err}, nil
}

// open sends a request; the answer's body is the caller's.
func (p *proxy) open(t *testing.T, ctx context.Context, r request) *http.Response {
	t.Helper()
	req := p.build(t, ctx, r)
	if r.proto == "" {
		r.proto = h1
	}
	resp, err := p.client(r.proto).Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, r.path, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := protocol(resp.Proto); got != r.proto {
		t.Fatalf("answered over %s, want %s", got, r.proto)
	}
	return resp
}

func (p *proxy) build(t *testing.T, ctx context.Context, r request) *http.Request {
	t.Helper()
	method, body := r.method, io.Reader(nil)
	if r.body != "" {
		body = strings.NewReader(r.body)
		if method == "" {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url+r.path, body)
	if err != nil {
		t.Fatal(err)
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	return req
}

// chatBody is a chat completion request.
func chatBody(model string, stream bool) string {
	return fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"hello"}]}`, model, stream)
}

// messagesBody is a request for Anthropic's /v1/messages.
func messagesBody(model string, stream bool) string {
	return fmt.Sprintf(`{"model":%q,"stream":%t,"max_tokens":1000,"messages":[{"role":"user","content":"hello"}]}`, model, stream)
}

// generateBody is a request for Gemini's generateContent.
const generateBody = `{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}`

// chat is the request that most tests need.
func chat(token, model string, stream bool) request {
	return request{path: "/v1/chat/completions", token: token, body: chatBody(model, stream)}
}
