package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// eventLog keeps the events that a gateway hands over.
type eventLog struct {
	mu      sync.Mutex
	events  []event.Event
	durable int
	fail    error  // of AppendDurable
	before  func() // called by AppendDurable
}

func (l *eventLog) Append(ev *event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, *ev)
	ev.Release()
}

func (l *eventLog) AppendDurable(_ context.Context, ev *event.Event) error {
	if l.before != nil {
		l.before()
	}
	if l.fail != nil {
		return l.fail
	}
	l.durable++
	l.Append(ev)
	return nil
}

func (l *eventLog) only(t *testing.T) event.Event {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) != 1 {
		t.Fatalf("%d events: %+v", len(l.events), l.events)
	}
	return l.events[0]
}

func prices(t *testing.T) *price.Table {
	t.Helper()
	overrides, err := price.ParseOverrides(strings.NewReader(`{"openai":{"priced":{"input":"1","cache_read":"0.5","output":"10"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	table, err := price.New(overrides)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// metered is a rig with an event log and a price of 1 USD in and 10 USD out a
// million tokens.
func metered(t *testing.T, s setup) (*rig, *eventLog) {
	t.Helper()
	log := new(eventLog)
	inner := s.gateway
	s.gateway = func(gc *gateway.Config) {
		gc.Events, gc.Prices = log, prices(t)
		if inner != nil {
			inner(gc)
		}
	}
	return newRig(t, s), log
}

const (
	usageFrame = `data: {"id":"c","model":"priced","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":40},"completion_tokens_details":{"reasoning_tokens":5}}}` + "\n\n"
	doneFrame  = "data: [DONE]\n\n"
	textFrame  = `data: {"id":"c","model":"priced","choices":[{"index":0,"delta":{"content":"hello"}}],"usage":null}` + "\n\n"
)

// A stream whose client did not ask for usage is metered all the same, and the
// client does not see how.
func TestUsageIsAskedFor(t *testing.T) {
	for name, tc := range map[string]struct{ body, sent, frames string }{
		"on the client's behalf": {
			`{"model":"priced","stream":true}`, `{"stream_options":{"include_usage":true},"model":"priced","stream":true}`, textFrame + doneFrame,
		},
		"by the client": {
			`{"model":"priced","stream":true,"stream_options":{"include_usage":true}}`, `{"model":"priced","stream":true,"stream_options":{"include_usage":true}}`,
			textFrame + usageFrame + doneFrame,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, log := metered(t, setup{})
			r.upstream.answer = func(req *http.Request) (*http.Response, error) {
				return reply(200, eventStream, textFrame+usageFrame+doneFrame), nil
			}
			a := r.do(r.chat(tc.body))
			if got := a.Body.String(); got != tc.frames {
				t.Errorf("the client got %q", got)
			}
			if sent := string(r.upstream.only(t).body); sent != tc.sent {
				t.Errorf("the provider got %q", sent)
			}
			ev := log.only(t)
			if ev.InputTokens != event.Known(100) || ev.CachedTokens != event.Known(40) || ev.OutputTokens != event.Known(20) ||
				ev.ReasoningTokens != event.Known(5) || ev.Estimated || ev.UsageSource != event.UsageProvider {
				t.Errorf("%+v", ev)
			}
			if want := event.Known(60*1000 + 40*500 + 20*10_000); ev.CostNanoUSD != want || ev.PriceVersion == "" || ev.ResponseModel != "priced" {
				t.Errorf("cost %+v, want %+v", ev.CostNanoUSD, want)
			}
			if ev.BytesOut != int64(len(tc.frames)) || ev.ID.String() != a.rec.RequestID || ev.Outcome != gateway.OutcomeOK || ev.Latency <= 0 {
				t.Errorf("%+v", ev)
			}
		})
	}
}

// What was used when nobody says, or when nothing can have been used.
func TestWhatIsUsed(t *testing.T) {
	unknown := event.Count{}
	for name, tc := range map[string]struct {
		method, target, body string
		answer               *http.Response
		in, out, cost        event.Count
		source               string
	}{
		"reported": {"POST", chatPath, `{"model":"priced"}`, reply(200, "application/json", `{"model":"priced","usage":{"prompt_tokens":7,"completion_tokens":0}}`),
			event.Known(7), event.Known(0), event.Known(7000), event.UsageProvider},
		"an unknown model": {"POST", chatPath, `{"model":"x"}`, reply(200, "application/json", `{"model":"x-1","usage":{"prompt_tokens":7,"completion_tokens":1}}`),
			event.Known(7), event.Known(1), unknown, event.UsageProvider},
		"priced by the name asked for": {"POST", chatPath, `{"model":"priced"}`, reply(200, "application/json", `{"model":"x-1","usage":{"prompt_tokens":7,"completion_tokens":1}}`),
			event.Known(7), event.Known(1), event.Known(17_000), event.UsageProvider},
		"nobody says": {"POST", chatPath, `{"model":"priced","x":"12345"}`, reply(200, "application/json", `{"choices":[{"message":{"content":"12345678"}}]}`),
			event.Known(8), event.Known(2), event.Known(28_000), event.UsageEstimated},
		"an error":     {"POST", chatPath, `{"model":"priced"}`, reply(429, "application/json", `{"error":{}}`), event.Count{}, event.Count{}, event.Known(0), event.UsageNone},
		"a list":       {"GET", "/v1/models", "", reply(200, "application/json", `{"data":[]}`), event.Count{}, event.Count{}, event.Known(0), event.UsageNone},
		"billed later": {"POST", "/v1/batches", `{"input_file_id":"f"}`, reply(200, "application/json", `{}`), unknown, unknown, unknown, event.UsageNone},
		"speech":       {"POST", "/v1/audio/speech", `{"model":"priced","input":"hello"}`, reply(200, "audio/mpeg", "sound"), unknown, unknown, unknown, event.UsageNone},
		"looked at again": {"GET", "/v1/responses/resp_1", "", reply(200, "application/json", `{"id":"resp_1","status":"completed","model":"priced","usage":{"input_tokens":7,"output_tokens":1}}`),
			event.Count{}, event.Count{}, event.Known(0), event.UsageNone},
		"an upload":       {"POST", "/v1/files", "bytes", reply(200, "application/json", `{}`), event.Count{}, event.Count{}, event.Known(0), event.UsageNone},
		"a path like any": {"POST", "/v1/fine_tuning/jobs", `{"model":"priced"}`, reply(200, "application/json", `{}`), unknown, unknown, unknown, event.UsageNone},
	} {
		t.Run(name, func(t *testing.T) {
			r, log := metered(t, setup{})
			r.upstream.answer = func(*http.Request) (*http.Response, error) { return tc.answer, nil }
			r.do(r.request(tc.method, tc.target, tc.body))
			ev := log.only(t)
			if ev.InputTokens != tc.in || ev.OutputTokens != tc.out || ev.CostNanoUSD != tc.cost || ev.UsageSource != tc.source || ev.Estimated != (tc.source == event.UsageEstimated) {
				t.Errorf("in %+v, out %+v, cost %+v, %s", ev.InputTokens, ev.OutputTokens, ev.CostNanoUSD, ev.UsageSource)
			}
		})
	}
}

// An answer that is made in the background is counted when it is looked at, once.
func TestBackground(t *testing.T) {
	r, log := metered(t, setup{})
	answers := []string{
		`{"id":"resp_1","status":"queued","background":true,"model":"priced","usage":null}`,
		`{"id":"resp_1","status":"in_progress","model":"priced","usage":null}`,
		`{"id":"resp_1","status":"completed","model":"priced","usage":{"input_tokens":7,"output_tokens":1}}`,
		`{"id":"resp_1","status":"completed","model":"priced","usage":{"input_tokens":7,"output_tokens":1}}`,
	}
	for i, answer := range answers {
		r.upstream.answer = func(*http.Request) (*http.Response, error) { return reply(200, "application/json", answer), nil }
		if i == 0 {
			r.do(r.request("POST", "/v1/responses", `{"model":"priced","background":true}`))
		} else {
			r.do(r.request("GET", "/v1/responses/resp_1", ""))
		}
	}
	var costs []event.Count
	for _, ev := range log.events {
		costs = append(costs, ev.CostNanoUSD)
	}
	if want := []event.Count{{}, event.Known(0), event.Known(17_000), event.Known(0)}; !reflect.DeepEqual(costs, want) {
		t.Errorf("%+v", costs)
	}
}

// One event a request that passed authentication, whatever became of it.
func TestWhoGetsAnEvent(t *testing.T) {
	r, log := metered(t, setup{token: func(tk *token.Token) {
		tk.Policy = project.Policy{AllowedModels: []string{"priced"}, Metadata: map[string]string{"team": "a"}}
	}})
	r.do(r.chat(`{"model":"priced"}`, "X-Api-Key:"))
	r.do(r.request("GET", gateway.SelfPath, ""))
	if len(log.events) != 0 {
		t.Errorf("%+v", log.events)
	}
	r.do(r.chat(`{"model":"other","user":"anna"}`))
	ev := log.only(t)
	if ev.Outcome != gateway.OutcomeRefused || ev.Status != 403 || ev.Code != "model_not_allowed" || ev.CostNanoUSD != event.Known(0) || ev.Attempts != 0 ||
		ev.TokenID != r.tokenID || ev.ProjectID != r.projectID || !reflect.DeepEqual(ev.Metadata, map[string]string{"team": "a"}) || !ev.ClientIP.IsValid() {
		t.Errorf("%+v", ev)
	}
}

func TestEndUserOfAnEvent(t *testing.T) {
	r, log := metered(t, setup{})
	r.do(r.chat(`{"model":"priced","user":"anna"}`, "X-LLM-Proxy-User: bert"))
	r.do(r.chat(`{"model":"priced"}`, "X-LLM-Proxy-User: bert"))
	if got := []string{log.events[0].EndUser, log.events[1].EndUser}; !reflect.DeepEqual(got, []string{"anna", "bert"}) {
		t.Errorf("%q", got)
	}
}

// The end of an answer waits for its event; everything before does not.
func TestDurableEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		target, answer, kind string
		known                bool
		early                string // what the client may have before the event is safe
	}{
		"a stream": {chatPath, textFrame + doneFrame, eventStream, false, textFrame},
		"a body":   {chatPath, `{"usage":{"prompt_tokens":1,"completion_tokens":1}}`, "application/json", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPage()
			log := new(eventLog)
			log.before = func() {
				if got := p.text(); got != tc.early {
					t.Errorf("the client has %q already", got)
				}
			}
			r := newRig(t, setup{gateway: func(gc *gateway.Config) { gc.Events, gc.Durable = log, true }, upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
				pieces := []piece{at(tc.answer)}
				if tc.early != "" {
					pieces = []piece{at(tc.early), at(strings.TrimPrefix(tc.answer, tc.early))}
				}
				resp, err := streams(tc.kind, nil, pieces...)(req)
				if tc.known {
					resp.ContentLength = int64(len(tc.answer))
				}
				return resp, err
			})})
			var rec gateway.Record
			if r.serve(p, r.chat(`{"model":"m","stream":true,"stream_options":{"include_usage":true}}`), &rec) || p.text() != tc.answer {
				t.Errorf("%q", p.text())
			}
			if ev := log.only(t); log.durable != 1 || ev.Outcome != gateway.OutcomeOK || ev.Status != 200 {
				t.Errorf("%d durable, %+v", log.durable, ev)
			}

			log.events, log.fail = nil, errors.New("the disk is full")
			p = newPage()
			if !r.serve(p, r.chat(`{"model":"m","stream":true,"stream_options":{"include_usage":true}}`), &rec) {
				t.Error("an answer without an event ended well")
			}
			if ev := log.only(t); ev.Outcome != gateway.OutcomeCut || strings.HasSuffix(p.text(), doneFrame) || !strings.HasPrefix(p.text(), tc.early) {
				t.Errorf("%+v, %q", ev, p.text())
			}
		})
	}
}

func TestCapture(t *testing.T) {
	r, log := metered(t, setup{gateway: func(gc *gateway.Config) { gc.Capture = gateway.Capture{Request: 10, Response: 100} }})
	r.upstream.answer = func(*http.Request) (*http.Response, error) { return reply(200, "application/json", `{"a":1}`), nil }
	r.do(r.chat(`{"model":"priced"}`))
	ev := log.only(t)
	if ev.Request != `{"model":"` || !ev.RequestTruncated || ev.Response != `{"a":1}` || ev.ResponseTruncated {
		t.Errorf("%+v", ev)
	}
}

func TestObserve(t *testing.T) {
	var seen []gateway.Record
	r := newRig(t, setup{gateway: func(gc *gateway.Config) { gc.Observe = func(rec *gateway.Record) { seen = append(seen, *rec) } }})
	r.do(r.chat(`{"model":"m"}`))
	r.do(r.chat(`{"model":"m"}`, "X-Api-Key:"))
	if len(seen) != 2 || seen[0].Status != 200 || seen[0].Latency <= 0 || seen[0].Overhead <= 0 || seen[0].Overhead > time.Minute || seen[1].Outcome != gateway.OutcomeRefused {
		t.Errorf("%+v", seen)
	}
}

// A project's prices are over those of the installation.
func TestProjectPrices(t *testing.T) {
	overrides, err := price.ParseOverrides(strings.NewReader(`{"openai":{"priced":{"output":"1"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	r, log := metered(t, setup{project: func(p *project.Snapshot) { p.Policy.Prices = overrides }})
	r.upstream.answer = func(*http.Request) (*http.Response, error) {
		return reply(200, "application/json", `{"model":"priced","usage":{"prompt_tokens":7,"completion_tokens":3}}`), nil
	}
	r.do(r.chat(`{"model":"priced"}`))
	if ev := log.only(t); ev.CostNanoUSD != event.Known(10_000) || !strings.Contains(ev.PriceVersion, "+project:") {
		t.Errorf("%+v, %s", ev.CostNanoUSD, ev.PriceVersion)
	}
}
