package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// receiver is who a webhook delivers to. It does as it is told.
type receiver struct {
	url string

	mu       sync.Mutex
	status   int // 0: it never answers
	attempts int
	batches  [][]string // ids of the events that it has read, whatever it answered
}

func newReceiver(t *testing.T, status int) *receiver {
	r := &receiver{status: status}
	server := httptest.NewServer(http.HandlerFunc(r.receive))
	r.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return r
}

func (r *receiver) receive(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.attempts++
	status := r.status
	r.mu.Unlock()
	var events []logged
	if err := json.NewDecoder(req.Body).Decode(&events); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if status == 0 {
		<-req.Context().Done()
		return
	}
	r.mu.Lock()
	var ids []string
	for _, ev := range events {
		ids = append(ids, ev.ID)
	}
	r.batches = append(r.batches, ids)
	r.mu.Unlock()
	w.WriteHeader(status)
}

// answers changes what is answered.
func (r *receiver) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) tried() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts
}

// has is every event that was read, in the order in which it first came.
func (r *receiver) has() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return firsts(slices.Concat(r.batches...))
}

func firsts(ids []string) []string {
	var once []string
	seen := make(map[string]bool)
	for _, id := range ids {
		if !seen[id] {
			once = append(once, id)
		}
		seen[id] = true
	}
	return once
}

func sorted(ids []string) []string { return slices.Sorted(slices.Values(ids)) }

// linesOf are the ids of the events in a file sink's file.
func (p *proxy) linesOf(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var ids []string
	for line := range bytes.Lines(text) {
		var ev logged
		if json.Unmarshal(line, &ev) == nil { // it may be written to
			ids = append(ids, ev.ID)
		}
	}
	return ids
}

// asks sends n requests, one after the other, and returns their ids.
func (a *account) asks(t *testing.T, n int) []string {
	t.Helper()
	var ids []string
	for range n {
		got := a.p.do(t, chat(a.token, "m", false))
		if got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		ids = append(ids, got.header.Get("X-LLM-Proxy-Request-Id"))
	}
	return ids
}

// sinkSite is a site with sinks, each by its block.
func sinkSite(s site, sinks map[string]string) site {
	s.app += "\t\tevents {\n"
	for _, name := range sortedKeys(sinks) {
		s.app += fmt.Sprintf("\t\t\tsink %s {\n%s\n\t\t\t}\n", name, sinks[name])
	}
	s.app += "\t\t}\n"
	return s
}

func webhookTo(r *receiver) string {
	return "type webhook\nurl " + r.url + "\nbatch 10\nlinger 10ms\ntimeout 500ms"
}

func fileAt(name string) string { return "type file\npath {dir}/" + name + "\nlinger 10ms" }

// same reports what differs between events that are there and those that should be.
func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: %d events, want %d; they differ from number %d on", what, len(got), len(want), at)
}

// TestSinkThatNeverAnswers has a receiver hang while requests go on, then fail,
// then recover, beside a file that has everything all the time.
func TestSinkThatNeverAnswers(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t, 0)
	sim := newProvider(t, simulator.Options{Chunks: 3})
	p := start(t, sinkSite(against(sim), map[string]string{"hook": webhookTo(hook), "file": fileAt("events.jsonl")}))
	a := p.account(t)

	sent := a.asks(t, 5)
	eventually(t, "the receiver has been tried", func() bool { return hook.tried() > 0 })
	sent = append(sent, a.asks(t, 40)...)
	const n = 200
	crowd := p.chatter(t, a.token, chatBody("m", true), n, 200, func(int) {})
	if len(crowd.ended) != n {
		t.Errorf("%d of %d requests were served beside a sink that hangs", len(crowd.ended), n)
	}
	sent = append(sent, a.asks(t, 5)...)
	var inFile []string
	eventually(t, "the file has every event", func() bool {
		inFile = p.linesOf(t, "events.jsonl")
		return len(inFile) >= len(sent)+n
	})
	same(t, "the file, each once", firsts(inFile), inFile)
	same(t, "the file", sorted(inFile), sorted(append(slices.Collect(maps.Keys(crowd.ended)), sent...)))
	if p.logStats(t).spilled == 0 { // or the database was slow, and some are in the log later
		same(t, "the file, in the order of the requests", slices.DeleteFunc(slices.Clone(inFile), func(id string) bool { return !slices.Contains(sent, id) }), sent)
	}
	if lag := p.sinkStatus(t, "hook"); lag["delivered"].(float64) != 0 || lag["pending"].(float64) != float64(len(inFile)) || lag["dead"].(float64) != 0 || lag["last_error"] == "" {
		t.Errorf("%v", lag)
	}

	hook.answers(http.StatusInternalServerError) // it reads, and cannot keep
	tried := hook.tried()
	eventually(t, "the receiver is tried again", func() bool { return hook.tried() > tried })
	hook.answers(http.StatusOK)
	eventually(t, "the receiver has every event", func() bool { return len(hook.has()) >= len(inFile) })
	same(t, "the receiver, in the order of the file", hook.has(), inFile)
	eventually(t, "nothing is pending", func() bool { return p.sinkStatus(t, "hook")["pending"].(float64) == 0 })
}

// sinkStatus is what GET /manage/events/lag says of a sink.
func (p *proxy) sinkStatus(t *testing.T, name string) object {
	t.Helper()
	for _, s := range p.manage(t, "GET", "events/lag", nil)["sinks"].([]any) {
		if s := s.(object); s["name"] == name {
			return s
		}
	}
	t.Fatalf("there is no sink %s", name)
	return nil
}

// TestSinksComeAndGo adds and removes a sink by reloads, during traffic.
func TestSinksComeAndGo(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t, http.StatusOK)
	sim := newProvider(t, simulator.Options{})
	file := fileAt("events.jsonl")
	one, both := map[string]string{"file": file}, map[string]string{"file": file, "hook": webhookTo(hook)}
	p := start(t, sinkSite(against(sim), one))
	a := p.account(t)
	var all []string
	ask := func() (ids []string) {
		ids = a.asks(t, 10)
		all = append(all, ids...)
		eventually(t, "the file has every event", func() bool { return len(p.linesOf(t, "events.jsonl")) >= len(all) })
		return ids
	}
	ask()
	p.reload(sinkSite(against(sim), both))
	eventually(t, "the new sink has its place", func() bool { return p.sinkStatus(t, "hook")["state"] == "idle" })
	since := ask()
	eventually(t, "the new sink has what came since", func() bool { return len(hook.has()) >= len(since) })
	same(t, "the new sink, at first", sorted(hook.has()), sorted(since))

	p.reload(sinkSite(against(sim), one))
	without := ask()
	same(t, "the sink that is not configured", sorted(hook.has()), sorted(since))

	p.reload(sinkSite(against(sim), both)) // its place was kept
	since = append(since, without...)
	eventually(t, "the sink has what it missed", func() bool { return len(hook.has()) >= len(since) })
	inFile := p.linesOf(t, "events.jsonl")
	same(t, "the file", sorted(inFile), sorted(all))
	same(t, "the sink that is back, in the order of the file", hook.has(), inFile[10:])
}

// TestDeadLetters has a receiver refuse events for good, and accept them when an
// operator has them delivered again.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t, http.StatusBadRequest)
	p := start(t, sinkSite(against(newProvider(t, simulator.Options{})), map[string]string{"hook": webhookTo(hook)}))
	a := p.account(t)
	refused := a.asks(t, 7)
	var dead []struct {
		ID       int64
		Sink     string
		Reason   string
		Attempts int
		Event    logged
	}
	eventually(t, "every event is a dead letter", func() bool {
		status, text := p.tryManage(t, "GET", "events/dead?sink=hook", nil)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, text)
		}
		if err := json.Unmarshal([]byte(text), &dead); err != nil {
			t.Fatal(err)
		}
		return len(dead) >= len(refused)
	})
	var ids []string
	for _, d := range dead {
		ids = append(ids, d.Event.ID)
		if d.Sink != "hook" || d.Reason != "answered 400" || d.Attempts < 1 || d.Event.Status != http.StatusOK {
			t.Errorf("%+v", d)
		}
	}
	same(t, "dead letters", sorted(ids), sorted(refused))

	hook.answers(http.StatusOK)
	accepted := a.asks(t, 2)
	eventually(t, "the next events are delivered", func() bool { return p.sinkStatus(t, "hook")["delivered"].(float64) >= 2 })
	hook.forget()
	if got := p.manage(t, "POST", "events/dead", object{"sink": "hook", "ids": []int64{dead[2].ID}}); got["requeued"].(float64) != 1 {
		t.Errorf("%v", got)
	}
	eventually(t, "one is delivered", func() bool { return p.sinkStatus(t, "hook")["dead"].(float64) == float64(len(refused)-1) })
	same(t, "the one that was asked for", hook.has(), ids[2:3])
	if got := p.manage(t, "POST", "events/dead", object{"sink": "hook", "all": true}); got["requeued"].(float64) != float64(len(refused)-1) {
		t.Errorf("%v", got)
	}
	eventually(t, "all are delivered", func() bool { return p.sinkStatus(t, "hook")["dead"].(float64) == 0 })
	same(t, "in their own order, but for that one", hook.has(), slices.Concat(ids[2:3], ids[:2], ids[3:]))
	if slices.ContainsFunc(accepted, func(id string) bool { return slices.Contains(hook.has(), id) }) {
		t.Error("what was delivered is delivered again")
	}
}

// forget makes the receiver new.
func (r *receiver) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = nil
}
