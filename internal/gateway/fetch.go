package gateway

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// fetch is the provider's side of a request whose answer may be shared and stored.
// It is an exchange of its own, on the fill's goroutine, and writes to the fill: the
// client's exchange reads from there like those who have joined. What the request
// has taken of its limits goes with it, since it is the one that knows what was used.
type fetch struct {
	exchange
	record Record
	fill   *fill.Writer
	// What came behind the answer's body.
	trailer http.Header

	mu    sync.Mutex // guards what follows
	over  bool       // the record is complete
	left  *Record    // what is known of a client that has left before
	told  bool       // the event of that one is out
	alone bool       // there never was one: it only refreshes what is stored
}

// heading is what readers of a fill need besides the answer's header.
type heading struct {
	meta     *httpcache.Meta // of an answer that is stored
	reason   httpcache.Reason
	variant  respcache.Key // whom the answer is for
	raw      http.Header   // as the provider sent it, for the client that asked
	attempts int
	upstream time.Duration
	keyID    uuid.UUID
	id       string // the provider's, of the request
	renewed  bool
}

// fork makes the provider's side of a request.
func (x *exchange) fork(req *http.Request) *fetch {
	f := &fetch{exchange: exchange{
		g: x.g, r: x.r, route: x.route, identity: x.identity, method: x.method, asked: slices.Clone(x.asked), reading: x.reading,
		governed: x.governed, cached: new(caching), fetching: true, req: req,
	}, record: *x.rec}
	f.rec = &f.record
	*f.cached = *x.cached
	f.meter.hide, f.meter.request = x.meter.hide, x.meter.request
	return f
}

// start is how a fill begins with this request.
func (x *exchange) start(f *fetch) fill.Start {
	return fill.Start{
		Run: f.run, Lease: x.g.cfg.Cache.Lease(), Values: context.WithoutCancel(x.r.Context()), Epoch: x.cached.epoch,
		About: f.tags(), Expected: x.method == http.MethodPost,
	}
}

func (f *fetch) tags() *respcache.Tags {
	return &respcache.Tags{
		Provider: f.route.Provider.Name, Project: f.identity.ProjectText, Model: f.rec.Model,
		Method: f.method, Path: f.route.Endpoint, Query: f.query(),
	}
}

// run asks the provider, until the end.
func (f *fetch) run(ctx context.Context, w *fill.Writer) {
	f.fill = w
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	f.r = f.r.WithContext(f.ctx)
	f.w = &fillAnswer{fetch: f, header: make(http.Header)}
	f.flight.cancel = f.cancel
	// With whom all who may read this end, it ends too.
	switch f.g.cfg.Cache.Rules.Scope {
	case httpcache.Token:
		f.flight.tokenID = f.identity.Token.ID
		if t := f.identity.Token.ExpiresAt; t != nil {
			f.flight.expires = *t
		}
		fallthrough
	case httpcache.Project:
		f.flight.projectID = f.identity.Project.ID
	}
	f.g.cfg.Inflight.add(&f.flight)
	var err *apierr.Error
	defer func() { f.end(err) }()
	req := f.req.WithContext(f.traced(f.ctx))
	req.Header = maps.Clone(req.Header) // the credential goes there
	if f.cached.decision.Action == httpcache.Confirm {
		httpcache.SetConditions(req.Header, f.cached.meta())
	}
	err = f.forward(req)
	f.done = err == nil
}

// end settles what the fetch has used, stores the answer, and only then ends it: who
// reads the end finds everything in its place.
func (f *fetch) end(err *apierr.Error) {
	f.g.cfg.Inflight.remove(&f.flight)
	if err != nil {
		if f.rec.Code = err.Code; f.rec.Outcome == "" {
			f.rec.Outcome = f.outcomeOf(err)
		}
		f.rec.Status = err.Status
	}
	f.conclude(f.done)
	f.account()
	f.settleLimits()
	if f.done && f.rec.Outcome == OutcomeOK {
		f.store()
	}
	f.cancel(nil)
	f.tell()
	switch {
	case err != nil:
		f.fill.Fail(err)
	case f.done:
		f.fill.Trailer(f.trailer)
		_ = f.fill.Close() // it has ended otherwise, and its readers know
	}
	f.meter.release()
}

// tell has the event published if the client has left, which would else do it.
func (f *fetch) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	switch {
	case f.alone:
		f.rec.Latency = time.Since(f.rec.Started)
	case f.left == nil:
		return
	default:
		f.rec.adoptClient(f.left)
	}
	if !f.told {
		f.publish()
	}
	if f.g.cfg.Observe != nil {
		f.g.cfg.Observe(f.rec)
	}
}

// meet has the client's exchange take over what the fetch knows, or leave it its
// own: whoever ends later publishes the event. It reports whether that is the client's
// exchange.
func (f *fetch) meet(x *exchange) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over {
		f.left, f.told = new(Record), x.meter.published
		*f.left = *x.rec
		return false
	}
	x.adopt(f)
	return true
}

// adopt takes over what the provider's side knows. f.over is set, so nobody else
// uses it any more.
func (x *exchange) adopt(f *fetch) {
	outcome, code := x.rec.Outcome, x.rec.Code
	x.rec.adoptFetch(f.rec)
	if x.rec.Cache != CacheStale && (outcome == "" || outcome == OutcomeOK) {
		outcome, code = f.rec.Outcome, f.rec.Code
	}
	x.rec.Outcome, x.rec.Code = outcome, code
	x.meter.request, x.meter.response = f.meter.request, f.meter.response
	x.meter.accounted, x.meter.published = true, x.meter.published || f.meter.published
}

// adoptFetch takes what only the provider's side of a request knows.
func (r *Record) adoptFetch(f *Record) {
	r.Attempts, r.Upstream, r.KeyID, r.UpstreamRequestID = f.Attempts, f.Upstream, f.KeyID, f.UpstreamRequestID
	r.adoptUsage(&f.Event)
	r.Overshoot = f.Overshoot
	if r.TTFT == 0 {
		r.TTFT = f.TTFT
	}
	if f.Overhead > 0 {
		r.Overhead = f.Overhead
	}
}

func (r *Record) adoptUsage(f *event.Event) {
	r.ResponseModel, r.ServiceTier, r.UsageSource, r.Estimated = f.ResponseModel, f.ServiceTier, f.UsageSource, f.Estimated
	r.InputTokens, r.CachedTokens, r.CacheWriteTokens = f.InputTokens, f.CachedTokens, f.CacheWriteTokens
	r.OutputTokens, r.ReasoningTokens = f.OutputTokens, f.ReasoningTokens
	r.CostNanoUSD, r.PriceVersion = f.CostNanoUSD, f.PriceVersion
}

// adoptClient takes what only the client's side knows.
func (r *Record) adoptClient(c *Record) {
	r.Status, r.Outcome, r.Code, r.Latency, r.BytesOut, r.FirstByte = c.Status, c.Outcome, c.Code, c.Latency, c.BytesOut, c.FirstByte
	if c.TTFT > 0 {
		r.TTFT = c.TTFT
	}
	if c.Cache == CacheStale { // something else has stood in
		r.Cache = c.Cache
	}
}

// store keeps a complete answer.
func (f *fetch) store() {
	c := f.cached
	if !c.verdict.Store || !f.complete() {
		f.fill.Discard()
		return
	}
	body, marks, ok := f.fill.Recorded()
	if !ok {
		return
	}
	e := &respcache.Entry{
		Primary: c.primary, Variant: c.variant(c.verdict.Meta.Vary), Tags: *f.tags(), Meta: c.verdict.Meta, Body: body,
		Until: time.Now().Add(c.verdict.Keep), Usage: f.usage(),
	}
	if f.rec.Stream {
		e.Marks = make([]respcache.Mark, len(marks))
		for i, m := range marks {
			e.Marks[i] = respcache.Mark(m)
		}
	}
	_ = f.g.cfg.Cache.Store.Put(e, c.epoch) // purged meanwhile, or too large: then it is not kept
}

// complete reports whether the answer says so itself, where answers do: a stream of
// events by its last one. Other answers have come to the end of their connection's
// framing when they are here.
func (f *fetch) complete() bool {
	if f.cached.renewed {
		return true
	}
	reader := f.meter.reader
	if !f.rec.Stream {
		if reader == nil {
			return true
		}
		_, _, failed := reader.Failed()
		return !failed
	}
	if reader == nil || !reader.Ended() {
		return false
	}
	_, _, failed := reader.Failed()
	return !failed
}

func (f *fetch) usage() respcache.Usage {
	r := f.rec
	if f.cached.renewed {
		return f.cached.stored.Usage
	}
	return respcache.Usage{
		Model: r.ResponseModel, ServiceTier: r.ServiceTier, Input: r.InputTokens.N, Cached: r.CachedTokens.N,
		CacheWrite: r.CacheWriteTokens.N, Output: r.OutputTokens.N, Reasoning: r.ReasoningTokens.N,
	}
}

// fillAnswer is the ResponseWriter of a fetch.
type fillAnswer struct {
	*fetch
	header http.Header
}

// Header implements [http.ResponseWriter].
func (a *fillAnswer) Header() http.Header { return a.header }

// WriteHeader implements [http.ResponseWriter].
func (a *fillAnswer) WriteHeader(status int) {
	f, c := a.fetch, a.fetch.cached
	if !c.renewed {
		c.verdict = httpcache.Consider(&c.req, status, a.header, c.sent, f.headerT, &f.g.cfg.Cache.Rules)
	}
	endless := c.unframed && !isEventStream(a.header) || f.rec.Stream && usage.KindOf(f.method, f.route.Endpoint) == usage.KindNone
	if c.verdict.Store && endless && !c.renewed {
		c.verdict = httpcache.Verdict{Reason: httpcache.ReasonNoEnd} // nobody could tell whether it is complete
	}
	raw := a.header.Clone() // trailers are added to it, and a client's handlers change what they get
	head := fill.Head{Status: status, Header: raw, Storable: c.verdict.Store}
	if f.meter.filter == nil {
		head.Length = max(0, f.meter.left)
	}
	h := &heading{raw: raw, reason: c.verdict.Reason, attempts: f.rec.Attempts, upstream: f.rec.Upstream, keyID: f.rec.KeyID, id: f.rec.UpstreamRequestID, renewed: c.renewed}
	if c.verdict.Store {
		head.Header, h.meta, h.variant = c.verdict.Meta.Header, &c.verdict.Meta, c.variant(c.verdict.Meta.Vary)
	}
	head.About = h
	_ = f.fill.Header(head) // if nobody wants it any more, Write says so
}

// Write implements [http.ResponseWriter].
func (a *fillAnswer) Write(p []byte) (int, error) { return a.fill.Write(p) }

// Flush implements [http.Flusher]: everything is out at once.
func (a *fillAnswer) Flush() {}
