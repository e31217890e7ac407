package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial opens a TLS connection for raw HTTP/1.1, on which nothing is cleaned.
func (p *proxy) dial(t *testing.T) *tls.Conn {
	t.Helper()
	cfg := p.tlsConfig()
	cfg.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// raw sends bytes and reads one answer. Lines may end with \n.
func (p *proxy) raw(t *testing.T, head, body string) answer {
	t.Helper()
	c := p.dial(t)
	defer c.Close()
	sent := make(chan struct{})
	go func() { // a server that refuses a body need not have read it
		defer close(sent)
		_, _ = io.WriteString(c, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n"+body)
	}()
	defer func() { c.Close(); <-sent }()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("no answer to %q: %v", head, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.Trailer, string(text), err}
}

// chunked is a body in chunks of n bytes.
func chunked(body string, n int) string {
	var b strings.Builder
	for len(body) > 0 {
		part := body[:min(n, len(body))]
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
		body = body[len(part):]
	}
	return b.String() + "0\r\n\r\n"
}
