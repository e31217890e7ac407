package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/pem"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

// provider is the simulator, with a record of all that reaches it.
type provider struct {
	*simulator.Server
	server *httptest.Server
	url    string
	caFile string // what a client of it must trust, when it speaks TLS

	mu    sync.Mutex
	seen  []*sighting
	gates map[string]chan struct{}
}

// sighting is one request as a provider saw it.
type sighting struct {
	method, uri, proto, host string
	header                   http.Header
	length                   int64 // announced; -1: not
	bytes                    int64 // read so far
	sum                      [sha256.Size]byte
}

// newProvider starts a provider that speaks plain HTTP/1.1.
func newProvider(t *testing.T, opt simulator.Options) *provider { return serveProvider(t, opt, false) }

// newTLSProvider starts a provider that speaks HTTP/2.
func newTLSProvider(t *testing.T, opt simulator.Options) *provider {
	return serveProvider(t, opt, true)
}

func serveProvider(t *testing.T, opt simulator.Options, secure bool) *provider {
	t.Helper()
	if opt.Pace == 0 {
		opt.Pace = -1
	}
	p := &provider{Server: simulator.New(opt), gates: make(map[string]chan struct{})}
	p.server = httptest.NewUnstartedServer(p)
	if secure {
		p.server.EnableHTTP2 = true
		p.server.StartTLS()
		p.caFile = filepath.Join(t.TempDir(), "provider-ca.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
		if err := os.WriteFile(p.caFile, block, 0o600); err != nil {
			t.Fatal(err)
		}
	} else {
		p.server.Start()
	}
	p.url = p.server.URL
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// ServeHTTP implements [http.Handler].
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := &sighting{
		method: r.Method, uri: r.RequestURI, proto: r.Proto, host: r.Host, header: r.Header.Clone(), length: r.ContentLength,
	}
	p.mu.Lock()
	p.seen = append(p.seen, s)
	gate := p.gates[credentialOf(s)]
	p.mu.Unlock()
	r.Body = &hashedBody{ReadCloser: r.Body, p: p, s: s, hash: sha256.New()}
	if gate != nil {
		w = &gatedWriter{ResponseWriter: w, gate: gate, left: r.Context().Done()}
	}
	p.Server.ServeHTTP(w, r)
}

// hashedBody notes what is read of a body.
type hashedBody struct {
	io.ReadCloser
	p    *provider
	s    *sighting
	hash hash.Hash
}

func (b *hashedBody) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	b.hash.Write(buf[:n])
	b.s.bytes += int64(n)
	b.s.sum = [sha256.Size]byte(b.hash.Sum(nil))
	return n, err
}

// gatedWriter holds a stream back after its second flush until the gate opens.
type gatedWriter struct {
	http.ResponseWriter
	gate    <-chan struct{}
	left    <-chan struct{}
	flushes int
}

func (g *gatedWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }

func (g *gatedWriter) FlushError() error {
	err := http.NewResponseController(g.ResponseWriter).Flush()
	if g.flushes++; g.flushes == 2 {
		select {
		case <-g.gate:
		case <-g.left:
		}
	}
	return err
}

// hold makes streams for the holder of a key stop after two frames until the
// returned function is called.
func (p *provider) hold(t *testing.T, key string) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	p.mu.Lock()
	p.gates[key] = gate
	p.mu.Unlock()
	release = sync.OnceFunc(func() {
		p.mu.Lock()
		delete(p.gates, key)
		p.mu.Unlock()
		close(gate)
	})
	t.Cleanup(release)
	return release
}

// sightings are the requests that came with a provider key; "" for all.
func (p *provider) sightings(key string) []sighting {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []sighting
	for _, s := range p.seen {
		if key == "" || credentialOf(s) == key {
			found = append(found, *s)
		}
	}
	return found
}

// last is the latest request with a key.
func (p *provider) last(t *testing.T, key string) sighting {
	t.Helper()
	all := p.sightings(key)
	if len(all) == 0 {
		t.Fatal("no request reached the provider")
	}
	return all[len(all)-1]
}

// untouched fails the test if more requests than before have come.
func (p *provider) untouched(t *testing.T, before int) {
	t.Helper()
	all := p.sightings("")
	for _, s := range all[min(before, len(all)):] {
		t.Errorf("reached the provider: %s %s", s.method, s.uri)
	}
}

func (p *provider) count() int { return len(p.sightings("")) }

func credentialOf(s *sighting) string {
	for _, name := range []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
		if v := s.header.Get(name); v != "" {
			return v
		}
	}
	return strings.TrimPrefix(s.header.Get("Authorization"), "Bearer ")
}

// scripted is a provider whose every byte the test decides on.
type scripted struct {
	url   string
	count func() int
}

// newScripted serves each connection's requests with script, which may write
// to the connection what it likes. The connection is closed when it returns false.
func newScripted(t *testing.T, script func(c net.Conn, r *http.Request) bool) *scripted {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	var n int
	var serving sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
			_, _ = io.Copy(io.Discard, r.Body)
			if !script(c, r) {
				return
			}
		}
	}
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			serving.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range slices.Clone(conns) {
			c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return &scripted{url: "http://" + ln.Addr().String(), count: func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}}
}

// unused is an address on loopback where nobody listens, for as long as the test lasts.
func unused(t *testing.T) string {
	t.Helper()
	return "http://" + testnet.Refusing(t)
}
