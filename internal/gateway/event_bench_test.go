package gateway_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// taken is a store that has everything at once.
type taken struct{}

func (taken) AppendEvents(context.Context, []*event.Event) error { return nil }

// A chat completion of ordinary size, 2 KB one way and 1 KB the other, whole or as
// a stream of as many bytes.
var (
	askedOnce     = `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"` + strings.Repeat("What does a proxy do? ", 90) + `"}]}`
	askedToStream = strings.Replace(askedOnce, `"messages"`, `"stream":true,"stream_options":{"include_usage":true},"messages"`, 1)
	usageMember   = `"usage":{"prompt_tokens":500,"completion_tokens":200,"total_tokens":700,"prompt_tokens_details":{"cached_tokens":100}}`
	answeredOnce  = `{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("It passes things on. ", 40) + `"}}],` + usageMember + `}`
	answeredStream = strings.Repeat(`data: {"id":"chatcmpl-1","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"It passes things on. "}}]}`+"\n\n", 8) +
		`data: {"id":"chatcmpl-1","model":"gpt-4o-mini","choices":[],` + usageMember + "}\n\n" + doneFrame
)

// eventPath is a gateway without a network, with and without events.
type eventPath struct {
	tb   testing.TB
	rig  *rig
	w    sink
	rec  gateway.Record
	body *strings.Reader
	req  *http.Request
}

// newEventPath answers every request the same. With events it has what a
// configuration has: a log, prices, and somebody who looks at the record.
func newEventPath(tb testing.TB, events bool, asked, contentType, answer string) *eventPath {
	tb.Helper()
	header := http.Header{"Content-Type": {contentType}, "Content-Length": {strconv.Itoa(len(answer))}}
	s := setup{upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, req.Body)
		return &http.Response{
			StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: maps.Clone(header),
			Body: io.NopCloser(bytes.NewReader([]byte(answer))), ContentLength: int64(len(answer)),
		}, nil
	})}
	if events {
		log, err := event.New(event.Config{Store: taken{}})
		if err != nil {
			tb.Fatal(err)
		}
		if err := log.Start(); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := log.Close(tb.Context()); err != nil {
				tb.Error(err)
			}
		})
		table, err := price.New(nil)
		if err != nil {
			tb.Fatal(err)
		}
		var seen int64
		s.gateway = func(gc *gateway.Config) {
			gc.Events, gc.Prices, gc.Observe = log, table, func(rec *gateway.Record) { seen += rec.CostNanoUSD.N }
		}
		tb.Cleanup(func() {
			if seen == 0 {
				tb.Error("no request had a cost")
			}
		})
	}
	p := &eventPath{tb: tb, rig: newRig(tb, s), w: sink{make(http.Header)}, body: strings.NewReader(asked)}
	p.req = httptest.NewRequestWithContext(tb.Context(), http.MethodPost, chatPath, p.body)
	p.req.ContentLength = int64(len(asked))
	p.req.Header["Authorization"] = []string{"Bearer " + p.rig.token}
	p.req.Header["Content-Type"] = []string{"application/json"}
	return p
}

func (p *eventPath) serve(asked string) {
	p.body.Reset(asked)
	clear(p.w.header)
	m, _ := p.rig.gateway.Match(p.req)
	p.rig.gateway.Serve(&p.w, p.req, m, &p.rec)
	if p.rec.Outcome != gateway.OutcomeOK {
		p.tb.Fatalf("%+v", p.rec)
	}
}

var eventPaths = []struct{ name, asked, contentType, answer string }{
	{"whole", askedOnce, "application/json", answeredOnce},
	{"stream", askedToStream, "text/event-stream", answeredStream},
}

// BenchmarkEvents is what events add to a request: a log, prices, and somebody who
// looks at the record. Requests with and without take turns, so that what changes
// on the machine meets both; the difference is the median of the turns'.
func BenchmarkEvents(b *testing.B) {
	const turn = 64
	for _, bc := range eventPaths {
		b.Run(bc.name, func(b *testing.B) {
			without := newEventPath(b, false, bc.asked, bc.contentType, bc.answer)
			with := newEventPath(b, true, bc.asked, bc.contentType, bc.answer)
			take := func(p *eventPath) float64 {
				began := time.Now()
				for range turn {
					p.serve(bc.asked)
				}
				return float64(time.Since(began).Nanoseconds()) / turn
			}
			var base, added []float64
			for b.Loop() {
				before := take(without)
				base, added = append(base, before), append(added, take(with)-before)
			}
			slices.Sort(base)
			slices.Sort(added)
			b.ReportMetric(0, "ns/op") // of many requests of both kinds
			b.ReportMetric(base[len(base)/2], "ns/request-without")
			b.ReportMetric(added[len(added)/2], "ns/request-added")
		})
	}
}
