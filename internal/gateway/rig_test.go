package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const sharedKey = "sk-shared-0123456789abcdef"

// setup says how a rig differs from the usual: one OpenAI provider with a shared
// key, an unrestricted project, an unrestricted token.
type setup struct {
	provider func(*provider.Config)
	others   []provider.Config
	project  func(*project.Snapshot)
	token    func(*token.Token)
	gateway  func(*gateway.Config)
	upstream http.RoundTripper // nil: a fake that answers {}
}

// rig is a gateway with what it needs around it, and no network.
type rig struct {
	t         testing.TB
	store     *store
	authority *token.Authority
	inflight  *gateway.Inflight
	gateway   *gateway.Gateway
	upstream  *fake // nil when the setup brings its own
	log       *logBuffer
	projectID uuid.UUID
	tokenID   uuid.UUID
	token     string
}

func newRig(t testing.TB, s setup) *rig {
	t.Helper()
	r := &rig{t: t, store: newStore(), inflight: gateway.NewInflight(), log: new(logBuffer)}
	t.Cleanup(r.inflight.Close)
	r.authority = token.NewAuthority(r.store, token.Options{})
	t.Cleanup(r.authority.Close)
	r.projectID = r.store.addProject(s.project)
	r.token, r.tokenID = r.store.addToken(t, r.projectID, s.token)

	transport := s.upstream
	if transport == nil {
		r.upstream = new(fake)
		transport = r.upstream
	}
	config := provider.Config{Name: "openai", APIKey: secret.NewValue(sharedKey)}
	if s.provider != nil {
		s.provider(&config)
	}
	transports := make(map[string]http.RoundTripper)
	var providers []*provider.Provider
	for _, c := range append([]provider.Config{config}, s.others...) {
		p, err := provider.New(c)
		if err != nil {
			t.Fatal(err)
		}
		providers = append(providers, p)
		transports[p.Name] = transport
	}
	table, err := provider.NewTable(providers, config.Name)
	if err != nil {
		t.Fatal(err)
	}
	gc := gateway.Config{
		Providers: table, Transports: transports, Authority: r.authority, Inflight: r.inflight,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if s.gateway != nil {
		s.gateway(&gc)
	}
	if r.gateway, err = gateway.New(gc); err != nil {
		t.Fatal(err)
	}
	return r
}

// announce tells of a change as the host does: the authority first.
func (r *rig) announce(c token.Change) {
	r.authority.Changed(c)
	r.inflight.Changed(c)
}

// request makes a request with the rig's token in X-Api-Key and more header
// lines such as "Origin: x"; an empty value removes a header.
func (r *rig) request(method, target, body string, lines ...string) *http.Request {
	r.t.Helper()
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(r.t.Context(), method, target, reader)
	req.Header.Set("X-Api-Key", r.token)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		name = http.CanonicalHeaderKey(name)
		if value = strings.TrimPrefix(value, " "); value == "" {
			delete(req.Header, name)
			continue
		}
		req.Header[name] = append(req.Header[name], value)
	}
	return req
}

func (r *rig) chat(body string, lines ...string) *http.Request {
	r.t.Helper()
	return r.request(http.MethodPost, "/v1/chat/completions", body, lines...)
}

// answer is how a request ended.
type answer struct {
	*httptest.ResponseRecorder
	rec     gateway.Record
	aborted bool // Serve panicked with http.ErrAbortHandler
}

// do serves a request and holds the record against what every record promises.
func (r *rig) do(req *http.Request) answer {
	r.t.Helper()
	a := answer{ResponseRecorder: httptest.NewRecorder()}
	a.aborted = r.serve(a.ResponseRecorder, req, &a.rec)
	return a
}

// serve is do with the caller's writer.
func (r *rig) serve(w http.ResponseWriter, req *http.Request, rec *gateway.Record) (aborted bool) {
	r.t.Helper()
	m, ours := r.gateway.Match(req)
	if !ours {
		r.t.Fatalf("%s is not the gateway's", req.URL)
	}
	func() {
		defer func() {
			if p := recover(); p != nil {
				if err, _ := p.(error); !errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				aborted = true
			}
		}()
		r.gateway.Serve(w, req, m, rec)
	}()
	if id, err := uuid.FromString(rec.RequestID); err != nil || id.Version() != uuid.V7 {
		r.t.Errorf("request id %q", rec.RequestID)
	}
	if rec.Started.IsZero() || rec.Latency < 0 || rec.Outcome == "" {
		r.t.Errorf("incomplete record %+v", rec)
	}
	return aborted
}

// wantRefused holds an answer against a refusal that no provider has seen.
func (r *rig) wantRefused(a answer, status int, code string) {
	r.t.Helper()
	r.wantError(a, status, code)
	if a.rec.Outcome != gateway.OutcomeRefused || a.rec.Attempts != 0 {
		r.t.Errorf("outcome %s after %d attempts, want refused after none", a.rec.Outcome, a.rec.Attempts)
	}
	if n := len(r.upstream.requests()); n != 0 {
		r.t.Errorf("%d requests reached the provider", n)
	}
}

// wantError holds an answer against an error of ours, in OpenAI's dialect.
func (r *rig) wantError(a answer, status int, code string) {
	r.t.Helper()
	var body struct {
		Error struct{ Message, Code string }
	}
	if err := json.Unmarshal(a.Body.Bytes(), &body); err != nil {
		r.t.Errorf("not JSON: %q", a.Body)
	}
	if a.Code != status || body.Error.Code != code || body.Error.Message == "" {
		r.t.Errorf("status %d, %s; want %d, %s", a.Code, a.Body, status, code)
	}
	if a.rec.Status != status || a.rec.Code != code {
		r.t.Errorf("record has %d %q, want %d %q", a.rec.Status, a.rec.Code, status, code)
	}
	if a.Header().Get("X-Request-Id") != a.rec.RequestID || a.Header().Get("Content-Type") != "application/json" {
		r.t.Errorf("header %v", a.Header())
	}
}

// wantOK holds an answer against one passed from the provider.
func (r *rig) wantOK(a answer, body string) {
	r.t.Helper()
	if a.Code != http.StatusOK || a.Body.String() != body || a.aborted {
		r.t.Errorf("status %d, %.300q, aborted %t; want 200, %q", a.Code, a.Body, a.aborted, body)
	}
	if a.rec.Outcome != gateway.OutcomeOK || a.rec.Status != http.StatusOK || a.rec.Code != "" || a.rec.Attempts != 1 {
		r.t.Errorf("record %+v", a.rec)
	}
}

// sent is a request as the provider saw it.
type sent struct {
	*http.Request
	body []byte
}

// fake is a provider without a network. It reads the body as a transport does,
// then answers.
type fake struct {
	answer func(*http.Request) (*http.Response, error) // nil: 200 {}

	mu   sync.Mutex
	seen []sent
}

func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := context.Cause(req.Context()); err != nil {
		return nil, err
	}
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	f.seen = append(f.seen, sent{req, body})
	f.mu.Unlock()
	if f.answer == nil {
		return reply(http.StatusOK, "application/json", "{}"), nil
	}
	return f.answer(req)
}

func (f *fake) requests() []sent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// only is the one request that came.
func (f *fake) only(t testing.TB) sent {
	t.Helper()
	seen := f.requests()
	if len(seen) != 1 {
		t.Fatalf("%d requests reached the provider, want 1", len(seen))
	}
	return seen[0]
}

// reply makes an answer with a length.
func reply(status int, contentType, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {contentType}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// always answers with the same text.
func always(status int, contentType, body string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return reply(status, contentType, body), nil }
}

// roundTripper is a function as a transport.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// hang answers when the request is over.
func hang(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// logBuffer is a log that tests can search.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
