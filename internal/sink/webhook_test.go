package sink_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // the specification's example

// receiver keeps what it got.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header
	bodies  [][]byte
}

func receive(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := new(receiver)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.headers, r.bodies = append(r.headers, req.Header), append(r.bodies, body)
		r.mu.Unlock()
		if answer != nil {
			answer(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func webhook(t *testing.T, url string, secrets ...string) *sink.Webhook {
	t.Helper()
	cfg := sink.WebhookConfig{URL: secret.NewValue(url), Headers: map[string]secret.Value{"Authorization": secret.NewValue("Bearer CANARY-header")}}
	for _, s := range secrets {
		cfg.Secrets = append(cfg.Secrets, secret.NewValue(s))
	}
	w, err := sink.NewWebhook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// verify is the check of the Standard Webhooks specification, written from its text:
// one of the space-separated signatures must be the version, a comma, and the base64
// of the HMAC-SHA256 of id.timestamp.body under what follows whsec_.
func verify(t *testing.T, header http.Header, body []byte, with string) bool {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(with, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	signed := header.Get("webhook-id") + "." + header.Get("webhook-timestamp") + "." + string(body)
	mac := hmac.New(sha256.New, key)
	if _, err := mac.Write([]byte(signed)); err != nil {
		t.Fatal(err)
	}
	for signature := range strings.FieldsSeq(header.Get("webhook-signature")) {
		version, value, ok := strings.Cut(signature, ",")
		got, err := base64.StdEncoding.DecodeString(value)
		if ok && err == nil && version == "v1" && hmac.Equal(got, mac.Sum(nil)) {
			return true
		}
	}
	return false
}

func TestWebhook(t *testing.T) {
	other := "whsec_" + base64.StdEncoding.EncodeToString([]byte("another secret of thirty-two byt"))
	r := receive(t, nil)
	w := webhook(t, r.URL, whsec, other)
	events := samples(3)
	for range 2 {
		if err := w.Deliver(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Deliver(t.Context(), events[:2]); err != nil {
		t.Fatal(err)
	}
	for i, header := range r.headers {
		if !verify(t, header, r.bodies[i], whsec) || !verify(t, header, r.bodies[i], other) {
			t.Errorf("signature %q", header.Get("Webhook-Signature"))
		}
		if verify(t, header, append(r.bodies[i], ' '), whsec) || verify(t, header, r.bodies[i], "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 24))) {
			t.Error("any signature is right")
		}
		at, err := strconv.ParseInt(header.Get("Webhook-Timestamp"), 10, 64)
		if err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
			t.Errorf("timestamp %d, error %v", at, err)
		}
		if header.Get("Content-Type") != "application/json" || header.Get("Authorization") != "Bearer CANARY-header" {
			t.Errorf("headers %v", header)
		}
		var got []struct{ ID string }
		if err := json.Unmarshal(r.bodies[i], &got); err != nil {
			t.Fatal(err)
		}
		for j, e := range got {
			if e.ID != events[j].ID.String() {
				t.Errorf("event %d has id %s", j, e.ID)
			}
		}
	}
	id := func(i int) string { return r.headers[i].Get("Webhook-Id") }
	if id(0) != id(1) || id(0) == id(2) || id(0) == "" {
		t.Errorf("ids %q %q %q: the same batch has the same id, another one another", id(0), id(1), id(2))
	}
}

// TestStatus says what each answer has the engine do.
func TestStatus(t *testing.T) {
	soon := func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
	}
	for _, c := range []struct {
		status int
		header func(http.ResponseWriter)
		want   string
	}{
		{200, nil, "taken"}, {202, nil, "taken"}, {204, nil, "taken"},
		{301, nil, "again"}, {307, nil, "again"},
		{400, nil, "permanent"}, {410, nil, "permanent"}, {413, nil, "permanent"}, {415, nil, "permanent"}, {422, nil, "permanent"},
		{401, nil, "again"}, {403, nil, "again"}, {404, nil, "again"}, {405, nil, "again"}, {407, nil, "again"},
		{408, nil, "again"}, {425, nil, "again"}, {429, nil, "again"}, {500, nil, "again"}, {502, nil, "again"}, {503, nil, "again"}, {529, nil, "again"},
		{429, func(w http.ResponseWriter) { w.Header().Set("Retry-After", "17") }, "again after 17s"},
		{503, func(w http.ResponseWriter) { w.Header().Set("Retry-After", "-5") }, "again"},
		{503, func(w http.ResponseWriter) { w.Header().Set("Retry-After", "soon") }, "again"},
		{503, soon, "about an hour"},
	} {
		t.Run(fmt.Sprint(c.status, c.want), func(t *testing.T) {
			r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				if c.header != nil {
					c.header(w)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(c.status)
				if c.status != 204 {
					_, _ = io.WriteString(w, `{"error":"because CANARY-header"}`)
				}
			})
			err := webhook(t, r.URL).Deliver(t.Context(), samples(1))
			got := verdict(err)
			var after *delivery.RetryAfterError
			if errors.As(err, &after) && after.After > 59*time.Minute && after.After <= time.Hour {
				got = "about an hour"
			}
			if got != c.want {
				t.Errorf("%d: %s (%v), want %s", c.status, got, err, c.want)
			}
			if len(r.bodies) != 1 {
				t.Errorf("%d requests", len(r.bodies))
			}
			if err != nil && (!strings.Contains(err.Error(), strconv.Itoa(c.status)) || strings.Contains(err.Error(), "CANARY")) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestBadReceivers: whatever a receiver does, an attempt ends and says so, without
// the address, which may hold a secret.
func TestBadReceivers(t *testing.T) {
	end := make(chan struct{})
	hang := receive(t, func(http.ResponseWriter, *http.Request) { <-end })
	reset := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
	endless := receive(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	go func() {
		for {
			conn, err := garbage.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "220 smtp.example.com\r\n")
			_ = conn.Close()
		}
	}()
	defer close(end)
	for name, c := range map[string]struct{ url, want string }{
		"gone": {"http://" + testnet.Refusing(t), "again"}, "hang": {hang.URL, "again"}, "reset": {reset.URL, "again"},
		"endless": {endless.URL, "permanent"}, "garbage": {"http://" + garbage.Addr().String(), "again"},
		"plain": {strings.Replace(hang.URL, "http:", "https:", 1), "again"},
	} {
		t.Run(name, func(t *testing.T) {
			limit := time.Minute
			if name == "hang" {
				limit = 500 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			err := webhook(t, c.url+"/CANARY?token=CANARY").Deliver(ctx, samples(1))
			if got := verdict(err); got != c.want || strings.Contains(fmt.Sprint(err), "CANARY") {
				t.Errorf("%s: %v, want %s", got, err, c.want)
			}
		})
	}
}

// TestUserinfo: user and password in the address are for Basic authentication.
func TestUserinfo(t *testing.T) {
	var user, password string
	r := receive(t, func(_ http.ResponseWriter, r *http.Request) { user, password, _ = r.BasicAuth() })
	w, err := sink.NewWebhook(sink.WebhookConfig{URL: secret.NewValue(strings.Replace(r.URL, "http://", "http://me:secret@", 1))})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Deliver(t.Context(), samples(1)); err != nil || user != "me" || password != "secret" {
		t.Errorf("%q %q, error %v", user, password, err)
	}
}

func TestWebhookRefuses(t *testing.T) {
	for _, url := range []string{"", "example.com", "ftp://CANARY", "http://", "https:CANARY", "://CANARY", "http://h/#CANARY", "http://CANARY\x7f/"} {
		_, err := sink.NewWebhook(sink.WebhookConfig{URL: secret.NewValue(url)})
		if err == nil || !strings.Contains(err.Error(), "url: ") || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, s := range []string{"", "CANARY", "whsec_", "whsec_CANARY!", "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)), "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65))} {
		_, err := sink.NewWebhook(sink.WebhookConfig{URL: secret.NewValue("https://example.com"), Secrets: []secret.Value{secret.NewValue(whsec), secret.NewValue(s)}})
		if err == nil || !strings.Contains(err.Error(), "secret 2: ") || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParseWebhookSecret(f *testing.F) {
	f.Add(whsec)
	f.Add("whsec_====")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := sink.ParseWebhookSecret(text)
		if err == nil && (len(key) < 24 || len(key) > 64 || !strings.HasPrefix(text, "whsec_")) {
			t.Errorf("%q is a key of %d bytes", text, len(key))
		}
		if err != nil && len(text) > 12 && slices.Contains(strings.Fields(err.Error()), text) {
			t.Errorf("the error shows it: %v", err)
		}
	})
}
