package gateway

import (
	"net/http"
	"sync"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// meter reads what an answer uses, as it passes.
type meter struct {
	kind      usage.Kind
	reader    *usage.Reader // nil: nothing is read
	filter    *usage.Filter // nil: the stream passes as it is
	hide      bool          // usage was asked for on the client's behalf
	left      int64         // bytes to come of an answer whose length is known; negative: it is not
	session   *session      // of an upgraded connection
	accounted bool
	published bool

	request, response captured
}

var (
	readers = sync.Pool{New: func() any { return new(usage.Reader) }}
	filters = sync.Pool{New: func() any { return new(usage.Filter) }}
)

// askForUsage has a stream report what it uses, where that has to be asked for.
func (x *exchange) askForUsage(body []byte) []byte {
	if !x.route.Provider.UsageOnRequest {
		return body
	}
	switch usage.KindOf(x.method, x.route.Endpoint) {
	case usage.KindChat, usage.KindGeminiChat:
	default:
		return body
	}
	body, done := usage.IncludeUsage(body)
	x.meter.hide = done == usage.Included
	return body
}

// begin prepares for the body of an answer.
func (m *meter) begin(x *exchange, resp *http.Response, out *outlet, events bool) {
	m.kind = usage.KindOf(x.method, x.route.Endpoint)
	m.left = resp.ContentLength
	if resp.StatusCode >= 300 {
		return
	}
	if m.kind != usage.KindNone {
		m.reader = readers.Get().(*usage.Reader)
		m.reader.Reset(m.kind, resp.Header.Get("Content-Type"))
	}
	if m.hide && events {
		m.filter = filters.Get().(*usage.Filter)
		m.filter.Reset(out)
	}
	m.response.limit = x.g.cfg.Capture.Response
}

// pass reads a piece of the answer and writes it to the client. The last piece
// waits until the event is safe, if that is wanted.
func (x *exchange) pass(out *outlet, p []byte) error {
	m := &x.meter
	if m.reader != nil {
		_, _ = m.reader.Write(p) // never fails
	}
	if x.rec.TTFT == 0 && (m.reader == nil || !m.reader.Active() || m.reader.ContentSeen()) {
		x.rec.TTFT = time.Since(x.rec.Started)
	}
	m.response.add(p)
	if x.durable() {
		last := m.left == int64(len(p))
		if m.left -= int64(len(p)); last || m.reader != nil && m.reader.Ended() {
			x.rec.BytesOut = out.written + int64(len(p)) // which go out if the event is safe
			if err := x.publishDurably(); err != nil {
				x.rec.BytesOut = out.written
				return err
			}
		}
	}
	if m.filter == nil {
		return out.write(p)
	}
	_, err := m.filter.Write(p)
	return err
}

// complete ends an answer that has come to its end.
func (x *exchange) complete(out *outlet) error {
	if f := x.meter.filter; f != nil {
		err := f.Close()
		x.rec.BytesOut = out.written
		if err != nil {
			return err
		}
	}
	if x.durable() {
		return x.publishDurably()
	}
	return nil
}

// durable reports whether the end of the answer waits for an event. A fetch that has
// failed leaves that to the request that it is for: something else may yet stand in.
func (x *exchange) durable() bool {
	return x.g.cfg.Durable && !x.meter.published && !(x.fetching && x.rec.Status >= http.StatusMultipleChoices)
}

// account settles what the request has used and what that costs, once.
func (x *exchange) account() {
	m := &x.meter
	if m.accounted || x.identity.Token == nil || x.route.Provider == nil {
		return
	}
	m.accounted = true
	counts, known := x.used()
	if m.reader != nil && x.rec.Outcome == OutcomeOK {
		if _, _, failed := m.reader.Failed(); failed { // an error in the disguise of a success
			x.rec.Outcome = OutcomeUpstreamError
		}
	}
	rec := x.rec
	rec.UsageSource = counts.Source.String()
	rec.Estimated = counts.Source == usage.SourceEstimated
	if counts.Model != "" { // else what is replayed has told
		rec.ResponseModel = counts.Model
	}
	if counts.ServiceTier != "" {
		rec.ServiceTier = counts.ServiceTier
	}
	if !known {
		return
	}
	rec.InputTokens = tokens(counts.InputTokens())
	rec.CachedTokens = tokens(counts.CachedTokens())
	rec.CacheWriteTokens = tokens(counts.CacheWriteTokens())
	rec.OutputTokens = tokens(counts.OutputTokens())
	rec.ReasoningTokens = tokens(counts.ReasoningTokens())
	if counts.Source == usage.SourceNone {
		rec.CostNanoUSD = event.Known(0)
		return
	}
	x.price(&counts)
}

func tokens(n int64, known bool) event.Count { return event.Count{N: n, Known: known} }

// used is what the request has used, and whether that is known at all. Nothing is
// used by what did not reach a model: a refusal, a look-up, an error answer.
func (x *exchange) used() (counts usage.Counts, known bool) {
	m := &x.meter
	if m.session != nil {
		return m.session.end(), true
	}
	if x.rec.Attempts == 0 || x.rec.Status >= 300 && x.rec.Outcome != OutcomeClientCancelled && x.rec.Outcome != OutcomeCut {
		return counts, true
	}
	if m.kind == usage.KindNone {
		m.kind = usage.KindOf(x.method, x.route.Endpoint) // the answer had not begun
	}
	if m.kind == usage.KindNone {
		// What a model does in a batch or in the background is billed elsewhere.
		return counts, !x.route.HidesModel(x.method) && !x.route.NeedsModel(x.method, x.upgrade)
	}
	if m.reader == nil {
		return counts.OrEstimate(x.textBytes(), 0), true
	}
	counts = m.reader.Counts()
	switch background := &x.g.background; {
	case !m.reader.Active(): // audio, or text that is no JSON
		return counts, false
	case x.method == http.MethodGet:
		// Each look at an answer repeats what it used, which counts once, and not
		// at all if that was told when it was made.
		if !counts.Final || !background.settle(counts.ResponseID) {
			return usage.Counts{}, true
		}
	case m.reader.Pending():
		background.add(counts.ResponseID)
		return usage.Counts{}, false
	case !counts.Final:
		counts = counts.OrEstimate(x.textBytes(), m.reader.ContentBytes())
	}
	return counts, true
}

// textBytes is how much of the request may be text: a file's bytes say nothing
// about tokens.
func (x *exchange) textBytes() int64 {
	if x.upload {
		return 0
	}
	return x.rec.BytesIn
}

// price asks under the name by which the provider answered, which names a
// version where the client may not have, then under the one asked for.
func (x *exchange) price(counts *usage.Counts) {
	if x.g.cfg.Prices == nil {
		return
	}
	p, rec := x.route.Provider, x.rec
	prices := x.g.cfg.Prices.With(x.identity.Project.Policy.Prices)
	rec.PriceVersion = prices.Version()
	found, ok := prices.Lookup(p.Name, p.Type, counts.Model, rec.Time)
	if !ok {
		if found, ok = prices.Lookup(p.Name, p.Type, rec.Model, rec.Time); !ok {
			return
		}
	}
	q := quantities(counts)
	if cost, complete := found.Cost(q, counts.ServiceTier); complete {
		rec.CostNanoUSD = event.Known(cost)
	}
}

func quantities(c *usage.Counts) price.Quantities {
	n := func(counter usage.Counter) int64 {
		v, _ := c.Get(counter)
		return v
	}
	return price.Quantities{
		Input: n(usage.Input), CacheRead: n(usage.CacheRead), CacheWrite5m: n(usage.CacheWrite5m), CacheWrite1h: n(usage.CacheWrite1h),
		InputAudio: n(usage.AudioInput), InputImage: n(usage.ImageInput),
		Output: n(usage.Output), Reasoning: n(usage.Reasoning), OutputAudio: n(usage.AudioOutput), OutputImage: n(usage.ImageOutput),
		InputAudioMillis: n(usage.AudioMillis), WebSearches: n(usage.WebSearches), Images: n(usage.Images), Pages: n(usage.Pages),
	}
}

// release gives back what is pooled.
func (m *meter) release() {
	if m.reader != nil {
		readers.Put(m.reader)
		m.reader = nil
	}
	if m.filter != nil {
		m.filter.Reset(nil)
		filters.Put(m.filter)
		m.filter = nil
	}
}
