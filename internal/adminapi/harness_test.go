package adminapi_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gofrs/uuid/v5"
	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
	"github.com/sofatutor/caddy-llm-proxy/storage/storetest"
)

const (
	managementToken = "management-token-of-the-tests"
	providerKey     = "sk-provider-key-CANARY-1234"
	clientIP        = "192.0.2.7"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Main(m)) }

// harness is an API on a database of its own. Every answer that passes through
// it is held against the served description.
type harness struct {
	t      *testing.T
	api    *adminapi.API
	db     *storage.DB
	file   string
	log    *buffer
	doc    *document
	events *eventsRig
	cache  *cacheRig

	mu   sync.Mutex
	seen map[string]bool // "GET /manage/tokens 200"
	text strings.Builder // every answer, headers and body, but those of a token's birth
}

func newHarness(t *testing.T, change ...func(*adminapi.Config)) *harness {
	t.Helper()
	return newHarnessOn(t, "sqlite", storetest.File(t), change...)
}

// onBoth runs a test on a harness with each kind of database.
func onBoth(t *testing.T, test func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness)) {
	t.Run("sqlite", func(t *testing.T) {
		test(t, func(change ...func(*adminapi.Config)) *harness { return newHarness(t, change...) })
	})
	t.Run("postgres", func(t *testing.T) {
		test(t, func(change ...func(*adminapi.Config)) *harness {
			return newHarnessOn(t, "postgres", storetest.Postgres(t), change...)
		})
	})
}

func newHarnessOn(t *testing.T, driver, dsn string, change ...func(*adminapi.Config)) *harness {
	t.Helper()
	ring, err := secret.NewKeyring(bytes.Repeat([]byte{7}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, file: dsn, log: &buffer{}, doc: loadDocument(t), seen: map[string]bool{}}
	logger := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if h.db, err = storage.New(storage.Config{Driver: driver, DSN: dsn, Keyring: ring, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	if err := h.db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.db.Close(); err != nil {
			t.Error(err)
		}
	})
	h.events = &eventsRig{db: h.db}
	h.cache = newCacheRig(t)
	cfg := adminapi.Config{
		Store:           h.db,
		Events:          h.events,
		Cache:           h.cache,
		ManagementToken: secret.NewValue(managementToken),
		Providers: func() []adminapi.ProviderInfo {
			return []adminapi.ProviderInfo{
				{Name: "openai", Type: "openai", BaseURL: "https://api.openai.com/v1", AuthScheme: "bearer",
					Endpoints: []string{"/v1/models"}, Methods: []string{"GET", "POST"}, HasSharedKey: true, Configured: true},
				{Name: "anthropic", Type: "anthropic", BaseURL: "https://api.anthropic.com"},
			}
		},
		ClientIP: func(*http.Request) string { return clientIP },
		Logger:   logger,
		Version:  "1.2.3",
	}
	for _, f := range change {
		f(&cfg)
	}
	h.api = adminapi.New(cfg)
	return h
}

// response is an answer, read.
type response struct {
	status int
	header http.Header
	body   []byte
}

func (res response) isCSV() bool {
	return strings.HasPrefix(res.header.Get("Content-Type"), "text/csv;")
}

// call makes an authorised call. options change the request.
func (h *harness) call(method, target, body string, options ...func(*http.Request)) response {
	h.t.Helper()
	r := httptest.NewRequestWithContext(h.t.Context(), method, target, nil)
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	r.Header.Set("Authorization", "Bearer "+managementToken)
	r.Header.Set("User-Agent", "tests/1")
	for _, f := range options {
		f(r)
	}
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	res := response{w.Code, w.Result().Header, w.Body.Bytes()}
	h.inspect(r, body, res)
	return res
}

// inspect checks what every answer must be.
func (h *harness) inspect(r *http.Request, body string, res response) {
	h.t.Helper()
	where := r.Method + " " + r.URL.Path
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := res.header.Get(name); got != want {
			h.t.Errorf("%s: %s is %q", where, name, got)
		}
	}
	if res.header.Get("X-Request-Id") == "" {
		h.t.Errorf("%s: no X-Request-Id", where)
	}
	if (res.status == http.StatusNoContent) != (len(res.body) == 0) && r.Method != http.MethodHead {
		h.t.Errorf("%s: %d with a body of %d bytes", where, res.status, len(res.body))
	}
	if len(res.body) > 0 && res.header.Get("Content-Type") != "application/json" && !res.isCSV() {
		h.t.Errorf("%s: Content-Type %q", where, res.header.Get("Content-Type"))
	}
	op := h.doc.check(h.t, r, body, res)

	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[op] = true
	if !strings.HasPrefix(op, "POST /manage/tokens 201") && !strings.HasPrefix(op, "POST /manage/tokens/{id}/rotate 201") {
		for _, name := range slices.Sorted(headerNames(res.header)) {
			h.text.WriteString(name + ": " + strings.Join(res.header[name], ", ") + "\n")
		}
		h.text.Write(res.body)
	}
}

func headerNames(h http.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range h {
			if !yield(name) {
				return
			}
		}
	}
}

// must makes a call that answers status and decodes its body into a value of type T.
func must[T any](h *harness, status int, method, target, body string, options ...func(*http.Request)) T {
	h.t.Helper()
	res := h.call(method, target, body, options...)
	if res.status != status {
		h.t.Fatalf("%s %s %s: %d %s, want %d", method, target, body, res.status, res.body, status)
	}
	return decode[T](h.t, res)
}

func decode[T any](t *testing.T, res response) (v T) {
	t.Helper()
	if len(res.body) > 0 {
		if err := json.Unmarshal(res.body, &v); err != nil {
			t.Fatalf("%s: %v", res.body, err)
		}
	}
	return v
}

// refused makes a call that fails with code and a text that holds the words.
func (h *harness) refused(code, words, method, target, body string, options ...func(*http.Request)) response {
	h.t.Helper()
	res := h.call(method, target, body, options...)
	e := decode[map[string]string](h.t, res)
	if res.status != adminapi.StatusOf(code) || e["code"] != code || !strings.Contains(e["error"], words) {
		h.t.Errorf("%s %s %.80s: %d %s, want %s with %q", method, target, body, res.status, res.body, code, words)
	}
	return res
}

type object = map[string]any

func (h *harness) project(body string) object {
	h.t.Helper()
	return must[object](h, 201, "POST", "/manage/projects", body)
}

func (h *harness) token(body string) object {
	h.t.Helper()
	return must[object](h, 201, "POST", "/manage/tokens", body)
}

func id(o object) string { return o["id"].(string) }

// audits lists the audit entries, newest first.
func (h *harness) audits() []audit.Entry {
	h.t.Helper()
	entries, err := h.db.AuditEntries(h.t.Context(), storage.AuditFilter{})
	if err != nil {
		h.t.Fatal(err)
	}
	return entries
}

// expire sets a token's expiry to a minute ago, which the API itself refuses to do.
func (h *harness) expire(tokenID string) {
	h.t.Helper()
	err := h.db.Update(h.t.Context(), func(tx *storage.Tx) error {
		t, err := tx.Token(h.t.Context(), uuid.Must(uuid.FromString(tokenID)))
		if err != nil {
			return err
		}
		past := tx.Now().Add(-time.Minute)
		t.ExpiresAt = &past
		return tx.UpdateToken(h.t.Context(), t)
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

// buffer is a log that tests read while the API may write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
