package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

const testClientToken = "sk-wt-CANARY"

// talk is a conversation with a server, and what it wrote.
type talk struct {
	*Chat
	stdout, stderr buffer
}

func newTalk(t *testing.T, handler http.Handler, opt ChatOptions, asJSON bool) *talk {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	if opt.Model == "" {
		opt.Model = "gpt-4o-mini"
	}
	k := &talk{}
	chat, err := NewChat(server.URL, secret.NewValue(testClientToken), Trust{}, Output{Out: &k.stdout, Err: &k.stderr, JSON: asJSON}, opt)
	if err != nil {
		t.Fatal(err)
	}
	k.Chat = chat
	return k
}

func sim() http.Handler { return simulator.New(simulator.Options{Pace: -1}) }

// scripted answers every request with the same thing and keeps the requests.
type scripted struct {
	contentType, body string
	status            int
	mu                sync.Mutex
	requests          []map[string]any
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request map[string]any
	if err := json.NewDecoder(r.Body).Decode(&request); err == nil {
		s.mu.Lock()
		s.requests = append(s.requests, request)
		s.mu.Unlock()
	}
	w.Header().Set("Content-Type", s.contentType)
	w.Header().Set("X-LLM-Proxy-Request-Id", "req-1")
	if s.status != 0 {
		w.WriteHeader(s.status)
	}
	_, _ = io.WriteString(w, s.body)
}

func TestChatAnswers(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]ChatOptions{
		"streamed": {}, "whole": {NoStream: true}, "terminal": {Terminal: true}, "crlf": {Model: "sim-crlf"}, "trailer": {Model: "sim-trailer"},
	} {
		k := newTalk(t, sim(), opt, false)
		if err := k.Ask(t.Context(), "Hello there"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		answer := k.stdout.take()
		if !strings.Contains(answer, "Hello there") || !strings.HasSuffix(answer, "\n") || strings.Count(answer, "\n") != 1 {
			t.Errorf("%s: %q", name, answer)
		}
		if len(k.history) != 2 || k.history[1].Role != "assistant" || k.history[1].Content != strings.TrimSuffix(answer, "\n") {
			t.Errorf("%s: history %+v", name, k.history)
		}
	}
	k := newTalk(t, sim(), ChatOptions{}, true)
	if err := k.Ask(t.Context(), "Hello"); err != nil {
		t.Fatal(err)
	}
	var completion struct{ Object string }
	if err := json.Unmarshal([]byte(k.stdout.String()), &completion); err != nil || completion.Object != "chat.completion" {
		t.Errorf("--json gives %s", k.stdout.String())
	}
}

func TestChatSendsOptionsAndHistory(t *testing.T) {
	t.Parallel()
	s := &scripted{contentType: "application/json", body: `{"choices":[{"index":0,"message":{"content":"fine","refusal":null}}]}`}
	zero := 0.0
	k := newTalk(t, s, ChatOptions{System: "be brief", Temperature: &zero, MaxTokens: 7}, false)
	for _, q := range []string{"one", "two"} {
		if err := k.Ask(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := json.Marshal(s.requests[1])
	want := `{"max_tokens":7,"messages":[{"content":"be brief","role":"system"},{"content":"one","role":"user"},{"content":"fine","role":"assistant"},{"content":"two","role":"user"}],"model":"gpt-4o-mini","stream":true,"temperature":0}`
	if string(got) != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
	for _, opt := range []ChatOptions{{}, {Model: "m", MaxTokens: -1}} {
		_, err := NewChat("http://localhost", secret.NewValue("x"), Trust{}, Output{}, opt)
		expectError(t, err, true, "--m")
	}
}

func TestChatFailures(t *testing.T) {
	t.Parallel()
	chunk := `data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}` + "\n\n"
	for name, c := range map[string]struct {
		handler http.Handler
		model   string
		words   []string
	}{
		"refused by the proxy": {&scripted{contentType: "application/json", status: 401, body: `{"error":{"message":"this proxy token was revoked","type":"authentication_error","param":null,"code":"token_inactive"}}`}, "",
			[]string{"401 token_inactive: this proxy token was revoked (request id req-1)"}},
		"code is a number": {&scripted{contentType: "application/json", status: 400, body: `{"error":{"message":"no","code":400,"type":"bad"}}`}, "", []string{"400 bad: no"}},
		"no JSON":          {&scripted{contentType: "text/html", status: 502, body: "<html>"}, "", []string{"502 Bad Gateway (request id req-1)"}},
		"another site":     {&scripted{contentType: "text/html", body: "<html>"}, "", []string{"not a chat completion", "llm_proxy"}},
		"empty stream":     {&scripted{contentType: "text/event-stream"}, "", []string{"broke off"}},
		"cut stream":       {&scripted{contentType: "text/event-stream", body: chunk}, "", []string{"broke off", "req-1"}},
		"nonsense":         {&scripted{contentType: "text/event-stream", body: chunk + "data: <\n\n"}, "", []string{"not a chat completion"}},
		"error event":      {&scripted{contentType: "text/event-stream", body: chunk + `data: {"error":{"message":"gone","code":"upstream_error"}}` + "\n\n"}, "", []string{"upstream_error: gone (request id req-1)"}},
		"rate limited":     {sim(), "sim-error-429", []string{"429"}},
		"aborted":          {sim(), "sim-abort", []string{"broke off"}},
		"truncated":        {sim(), "sim-truncate", []string{"broke off"}},
		"midstream":        {sim(), "sim-error-midstream", []string{"error"}},
		"no headers":       {sim(), "sim-abort-headers", []string{"cannot reach"}},
		"redirect":         {sim(), "sim-redirect", []string{"redirects to"}},
	} {
		k := newTalk(t, c.handler, ChatOptions{Model: c.model}, false)
		err := k.Ask(t.Context(), "Hello")
		expectError(t, err, false, c.words...)
		if len(k.history) != 0 {
			t.Errorf("%s: what failed is remembered", name)
		}
		if out := k.stdout.String(); out != "" && !strings.HasSuffix(out, "\n") {
			t.Errorf("%s: the error would begin in the answer's line: %q", name, out)
		}
	}
}

func TestChatFinishesWithoutDone(t *testing.T) {
	t.Parallel()
	s := &scripted{contentType: "text/event-stream; charset=utf-8", body: ": hello\n\nevent: x\ndata: {\"choices\":[\ndata: {\"index\":0,\"delta\":{\"content\":\"a\\u001b[2Jb\\n\"},\"finish_reason\":\"stop\"},{\"index\":1,\"delta\":{\"content\":\"other\"}}]}"}
	for terminal, want := range map[bool]string{true: "a[2Jb\n", false: "a\x1b[2Jb\n"} {
		k := newTalk(t, s, ChatOptions{Terminal: terminal}, false)
		if err := k.Ask(t.Context(), "Hello"); err != nil {
			t.Fatal(err)
		}
		if got := k.stdout.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestChatCancelledKeepsWhatWasSaid(t *testing.T) {
	t.Parallel()
	k := newTalk(t, sim(), ChatOptions{Model: "sim-silent-1h"}, false)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Ask(ctx, "Hello") }()
	waitFor(t, "some of the answer", func() bool { return k.stdout.String() != "" })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if len(k.history) != 2 || k.history[1].Content == "" {
		t.Errorf("history %+v", k.history)
	}
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// keyboard is standard input of a conversation.
type keyboard struct {
	t *testing.T
	io.Writer
}

func (k keyboard) enter(lines ...string) {
	k.t.Helper()
	if _, err := fmt.Fprintln(k.Writer, strings.Join(lines, "\n")); err != nil {
		k.t.Fatal(err)
	}
}

// converse starts a conversation; leave waits for its end.
func converse(t *testing.T, k *talk) (keys keyboard, interrupt func(), closeInput func(), leave func()) {
	t.Helper()
	in, out := io.Pipe()
	interrupts := make(chan os.Signal, 2)
	done := make(chan error, 1)
	go func() { done <- k.Converse(t.Context(), in, interrupts) }()
	return keyboard{t, out}, func() { interrupts <- os.Interrupt }, func() { out.Close() }, func() {
		t.Helper()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the conversation ended with %v", err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("the conversation did not end")
		}
		in.Close()
	}
}

func TestConversation(t *testing.T) {
	t.Parallel()
	s := &scripted{contentType: "application/json", body: `{"choices":[{"index":0,"message":{"content":"fine"}}]}`}
	k := newTalk(t, s, ChatOptions{}, false)
	keys, _, _, leave := converse(t, k)
	keys.enter("/help", "/model", "/model other", "/system be kind", "/what", "", "  one", "/reset", "/system", "two", "/quit")
	leave()
	if got := k.stdout.String(); got != "fine\nfine\n" {
		t.Errorf("standard output %q", got)
	}
	expectText(t, k.stderr.String(), "/reset        forget", "talking to gpt-4o-mini; /model NAME", "talking to other", "prompt is set", "prompt is removed", "unknown command", "forgotten")
	got, _ := json.Marshal(s.requests)
	want := `[{"messages":[{"content":"be kind","role":"system"},{"content":"one","role":"user"}],"model":"other","stream":true},` +
		`{"messages":[{"content":"two","role":"user"}],"model":"other","stream":true}]`
	if string(got) != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
}

func TestConversationGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	k := newTalk(t, sim(), ChatOptions{Model: "sim-error-500"}, false)
	keys, _, closeInput, leave := converse(t, k)
	keys.enter("one", "/model gpt-4o-mini", "two")
	waitFor(t, "the second answer", func() bool { return strings.HasSuffix(k.stdout.String(), "\n") })
	closeInput()
	leave()
	expectText(t, k.stderr.String(), "error: 500")
}

func TestInterrupts(t *testing.T) {
	t.Parallel()
	k := newTalk(t, sim(), ChatOptions{Model: "sim-silent-1h"}, false)
	keys, interrupt, _, leave := converse(t, k)
	keys.enter("one")
	waitFor(t, "the answer's first half", func() bool { return k.stdout.String() != "" })
	interrupt()
	waitFor(t, "the answer's end", func() bool { return strings.Contains(k.stderr.String(), "(stopped)\n> ") })
	interrupt()
	leave()
}

func TestSecondInterruptLeavesAtOnce(t *testing.T) {
	t.Parallel()
	k := newTalk(t, sim(), ChatOptions{Model: "sim-hang"}, false)
	_, interrupt, _, leave := converse(t, k)
	interrupt()
	leave()
}

func TestReadPrompt(t *testing.T) {
	t.Parallel()
	if got, err := ReadPrompt(strings.NewReader(" a\nb \n")); got != "a\nb" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err := ReadPrompt(failingReader{})
	expectError(t, err, false, "unplugged")
	_, err = ReadPrompt(strings.NewReader(strings.Repeat("x", maxPrompt+1)))
	expectError(t, err, false, "too large")
}
