package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// origin is a provider that answers as a test says, by default with who asked for what.
type origin struct {
	url    string
	server *httptest.Server

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, told telling)
	asked  []string // method and target of each request
}

// telling is what an answer tells of the request that it was made for.
type telling struct {
	Owner  string // a digest of the credential
	Target string
	Method string
	Type   string // of the request's body
	Body   string // its digest
	Number int    // of the request
}

func newOrigin(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, told telling)) *origin {
	t.Helper()
	o := &origin{answer: answer}
	if answer == nil {
		o.answer = tell
	}
	o.serve(t, o)
	return o
}

// serve listens, with another's handler if need be.
func (o *origin) serve(t *testing.T, handler http.Handler) {
	t.Helper()
	o.server = httptest.NewUnstartedServer(handler)
	o.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of answers that are broken off
	o.server.Start()
	o.url = o.server.URL
	t.Cleanup(func() {
		o.server.CloseClientConnections()
		o.server.Close()
	})
}

// stage is a server for several origins, which provider keys tell apart.
type stage struct {
	*origin
	origins sync.Map
}

func newStage(t *testing.T) *stage {
	s := &stage{origin: new(origin)}
	s.serve(t, s)
	return s
}

func (s *stage) add(key string, o *origin) { s.origins.Store("Bearer "+key, o) }

// ServeHTTP implements [http.Handler].
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o, ok := s.origins.Load(r.Header.Get("Authorization"))
	if !ok {
		http.Error(w, "nobody has this key", http.StatusTeapot)
		return
	}
	o.(*origin).ServeHTTP(w, r)
}

// tell answers for ten minutes with what it was told.
func tell(w http.ResponseWriter, r *http.Request, told telling) {
	if r.Method == http.MethodGet {
		w.Header().Set("Cache-Control", "max-age=600")
	}
	told.write(w)
}

// gated tells once a gate is open.
func gated(gate <-chan struct{}) func(w http.ResponseWriter, r *http.Request, told telling) {
	return func(w http.ResponseWriter, r *http.Request, told telling) {
		select {
		case <-gate:
			tell(w, r, told)
		case <-r.Context().Done():
		}
	}
}

func (told telling) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(told)
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// ServeHTTP implements [http.Handler].
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	o.mu.Lock()
	o.asked = append(o.asked, r.Method+" "+r.RequestURI)
	told := telling{
		Owner: digestOf(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")), Target: r.RequestURI, Method: r.Method,
		Type: r.Header.Get("Content-Type"), Body: digestOf(string(body)), Number: len(o.asked),
	}
	answer := o.answer
	o.mu.Unlock()
	answer(w, r, told)
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

// becomes changes how the origin answers.
func (o *origin) becomes(answer func(w http.ResponseWriter, r *http.Request, told telling)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer = answer
}

// site has the origin as the default provider, everything below /v1 allowed, and a cache.
func (o *origin) site(options ...string) site {
	return site{
		providers: map[string]string{"openai": o.url + "/v1"},
		options:   map[string]string{"openai": "allow_endpoints /v1/*\nallow_methods GET HEAD POST PUT PATCH DELETE OPTIONS"},
		handler:   "cache {\n" + strings.Join(options, "\n") + "\n}",
	}
}

// toldIn reads what an answer of the origin tells.
func toldIn(t *testing.T, a answer) telling {
	t.Helper()
	var told telling
	if a.status != http.StatusOK || a.err != nil || json.Unmarshal([]byte(a.body), &told) != nil {
		t.Errorf("%d %v %q, %v", a.status, a.header, a.body, a.err)
	}
	return told
}

// cacheStatus is what an answer says of the cache.
func cacheStatus(a answer) string {
	return strings.TrimPrefix(a.header.Get("Cache-Status"), "llm-proxy; ")
}

// isHit reports whether an answer came from the cache.
func isHit(a answer) bool { return strings.HasPrefix(cacheStatus(a), "hit") }

// with adds header lines such as "Origin: x" to a request.
func with(r request, lines ...string) request {
	header := r.header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			panic(fmt.Sprintf("%q is no header line", line))
		}
		header[http.CanonicalHeaderKey(name)] = append(header[http.CanonicalHeaderKey(name)], value)
	}
	r.header = header
	return r
}

// cacheEvent is a request's event, with what the cache did.
type cacheEvent struct {
	logged
	Cache string `json:"cache"`
}

// cacheEvents waits for n events of a token, newest first.
func (p *proxy) cacheEvents(t *testing.T, tokenID string, n int) []cacheEvent {
	t.Helper()
	var all []cacheEvent
	eventually(t, fmt.Sprintf("%d events", n), func() bool {
		status, body := p.tryManage(t, http.MethodGet, "requests?limit=1000&token_id="+tokenID, nil)
		all = nil
		if err := json.Unmarshal([]byte(body), &all); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s: %v", status, body, err)
		}
		return len(all) >= n
	})
	if len(all) != n {
		t.Fatalf("%d events, want %d: %+v", len(all), n, all)
	}
	return all
}
