package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// Cache keeps answers and gives them again to who asks the same.
type Cache struct {
	Store CacheStore
	// Fills lets requests share an answer while it arrives.
	Fills *fill.Group
	Rules httpcache.Rules
	// Ignore are the members of JSON bodies that make no difference; may be nil.
	Ignore *respcache.Ignore
	// Paced replays streams as they came, not at once.
	Paced bool
	// Lease makes what keeps the gateway's resources open for a fill, which may outlive
	// its requests.
	Lease func() fill.Lease
}

// CacheStore is where answers are kept; [respcache.Tiered] is one.
type CacheStore interface {
	Lookup(ctx context.Context, primary respcache.Key, variant func(vary []string) respcache.Key) (*respcache.Entry, respcache.Tier, bool)
	Epoch() uint64
	Put(*respcache.Entry, uint64) error
	Invalidate(respcache.Key)
}

// What the cache did, as logs, events and metrics name it.
const (
	CacheHit         = "hit"
	CacheStale       = "stale"       // a hit that was not fresh
	CacheMiss        = "miss"        // the provider was asked
	CacheRevalidated = "revalidated" // the provider was asked, and has confirmed what was stored
	CacheCoalesced   = "coalesced"   // another request had asked the provider
	CacheBypass      = "bypass"      // the cache took no part
)

// caching is what the cache knows of a request.
type caching struct {
	req      httpcache.Request
	keyed    bool // the request may be answered from the cache, or its answer go there
	body     respcache.Body
	primary  respcache.Key
	fields   httpcache.Header // as sent upstream, less the credential
	view     outboundFields
	epoch    uint64
	stored   *respcache.Entry
	decision httpcache.Decision
	status   httpcache.Status

	// Of a fetch, on its own goroutine:
	sent    time.Time
	verdict httpcache.Verdict
	renewed bool // the provider has confirmed what was stored
	// unframed: the body ends with its connection, so that nobody could tell whether it
	// is complete.
	unframed bool
}

var errNotCached = noRetry(apierr.New(http.StatusGatewayTimeout, apierr.NotCached, "there is no stored answer, and the request wants no other"))

// beginCaching looks at the request's header, and at its body where that may matter.
func (x *exchange) beginCaching(body []byte) {
	cache := x.g.cfg.Cache
	if cache == nil || x.upgrade {
		return
	}
	c := &x.caching
	c.req = httpcache.NewRequest(x.method, x.r.Header)
	x.cached = c
	if x.upload {
		return
	}
	c.keyed = c.req.Reads(&cache.Rules)
	if !c.keyed {
		d := httpcache.Evaluate(&c.req, nil, x.rec.Started, &cache.Rules)
		c.keyed = d.Store
	}
	if c.keyed && len(body) > 0 {
		c.body = x.g.cachedBody(body, x.r.Header["Content-Type"])
	}
}

// cachedBody stands for a body: for what it says if it is sent as JSON, else for its
// bytes under its type, since a provider may read them as something else.
func (g *Gateway) cachedBody(body []byte, types []string) respcache.Body {
	if isJSONType(types) {
		return g.bodies.JSONBody(body, types...)
	}
	return respcache.RawBody(body, types...)
}

// key is that of a request: of everything that its answer may depend on, and of
// who may share it.
func (c *caching) key(x *exchange, method, path, query string, body respcache.Body) respcache.Key {
	id := &x.identity
	scope := respcache.Scope{Kind: respcache.Project, ID: id.ProjectText}
	switch x.g.cfg.Cache.Rules.Scope {
	case httpcache.Token:
		scope = respcache.Scope{Kind: respcache.Token, ID: id.TokenText}
	case httpcache.Shared:
		scope = respcache.Scope{Kind: respcache.Shared}
	}
	var room [256]byte
	identity := respcache.Identity{
		Provider: x.route.Provider.Origin(), Method: method, Path: path, Query: query, Scope: scope,
		Fields: httpcache.AppendVariant(room[:0], httpcache.Implied, c.fields), Body: body,
	}
	return identity.Key()
}

// variant is the key of the answer among those that vary.
func (c *caching) variant(vary []string) respcache.Key {
	return respcache.VariantKey(c.primary, vary, c.fields)
}

// meta is what is stored, if anything is.
func (c *caching) meta() *httpcache.Meta {
	if c.stored == nil {
		return nil
	}
	return &c.stored.Meta
}

// serveCached answers a request from the cache, or has the provider's answer go
// there.
func (x *exchange) serveCached() *apierr.Error {
	c, cache := x.cached, x.g.cfg.Cache
	varied := false
	c.view = outboundFields{x.g, x.r.Header, x.upload}
	c.fields = &c.view
	if c.keyed {
		c.primary = c.key(x, x.method, x.route.Path, x.query(), c.body)
		x.rec.CacheKey = c.primary
		c.epoch = cache.Store.Epoch()
		if c.req.Reads(&cache.Rules) {
			c.stored, _, varied = cache.Store.Lookup(x.ctx, c.primary, c.variant)
		}
	}
	d := httpcache.Evaluate(&c.req, c.meta(), time.Now(), &cache.Rules)
	if x.upload && d.Store {
		d.Store = false
	}
	if varied && d.Forward == httpcache.ForwardURIMiss {
		d.Forward = httpcache.ForwardVaryMiss
	}
	c.decision, c.status = d, d.Status()
	switch d.Action {
	case httpcache.Answer:
		if d.Background && x.method != http.MethodHead { // what it brought would be no answer to GET
			x.refresh(x.outboundCached())
		}
		x.returnHolds() // unless the refresh has them
		return x.replay()
	case httpcache.Timeout:
		x.rec.Cache = CacheMiss
		c.status.Set(x.w.Header())
		return errNotCached
	}
	x.rec.Cache = CacheMiss
	if d.Forward == httpcache.ForwardBypass || d.Forward == httpcache.ForwardMethod {
		x.rec.Cache = CacheBypass
	}
	if !d.Store {
		return x.forward(x.outboundCached())
	}
	return x.share(x.outboundCached())
}

// outboundCached is outbound for a request whose answer the cache looks at, perhaps
// when the client's has gone.
func (x *exchange) outboundCached() *http.Request {
	req := x.outbound()
	x.cached.fields = req.Header
	return req
}

// standsIn answers with what is stored in place of a provider that has failed, with
// this status or none.
func (x *exchange) standsIn(status int) bool {
	c := x.cached
	if c == nil || x.wrote || x.cause() != nil || !httpcache.UseOnError(&c.req, c.meta(), status, time.Now(), &x.g.cfg.Cache.Rules) {
		return false
	}
	x.rec.Status = max(status, http.StatusBadGateway)
	x.account() // what has failed has used nothing, and what comes now neither
	x.rec.Outcome, x.rec.Code = "", ""
	c.decision.Stale, c.decision.NotModified = true, httpcache.NotModified(&c.req, c.meta())
	c.status = httpcache.Status{Hit: true, HasTTL: true, TTL: c.meta().TTL(time.Now()), Detail: httpcache.ReasonStaleError}
	_ = x.replay()
	return true
}

// cacheAnswered deals with an answer of the provider: what it makes out of date is
// forgotten.
func (x *exchange) cacheAnswered(resp *http.Response) {
	c, cache := x.cached, x.g.cfg.Cache
	x.invalidate(resp)
	if x.fetching {
		c.unframed = resp.ProtoMajor == 1 && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && !resp.Uncompressed
		return
	}
	if x.method == http.MethodHead && c.stored != nil && resp.StatusCode == http.StatusOK {
		x.freshenHead(resp)
	}
	if c.decision.Store {
		return
	}
	if v := httpcache.Consider(&c.req, resp.StatusCode, resp.Header, c.sent, time.Now(), &cache.Rules); c.status.Detail == httpcache.ReasonNone {
		c.status.Detail = v.Reason
	}
}

// invalidate forgets what GET has stored where a request with effects went
// (RFC 9111, 4.4). POSTs to models have none.
func (x *exchange) invalidate(resp *http.Response) {
	if x.method == http.MethodGet || x.method == http.MethodHead || bounded(usage.KindOf(x.method, x.route.Endpoint)) {
		return
	}
	for _, uri := range httpcache.Invalidates(x.method, resp.StatusCode, resp.Header, x.route.URL(x.query())) {
		path, query, _ := strings.Cut(uri, "?")
		x.g.cfg.Cache.Store.Invalidate(x.cached.key(x, http.MethodGet, path, query, respcache.Body{}))
	}
}

// freshenHead has the answer to a HEAD say whether what GET has stored is still
// right (RFC 9111, 4.3.5).
func (x *exchange) freshenHead(resp *http.Response) {
	c, cache := x.cached, x.g.cfg.Cache
	v, ok := httpcache.FreshenHead(&c.req, c.meta(), resp.Header, c.sent, time.Now(), &cache.Rules)
	if !ok || !v.Store {
		cache.Store.Invalidate(c.primary)
		return
	}
	_ = cache.Store.Put(c.stored.Renewed(v.Meta, time.Now().Add(v.Keep)), c.epoch) // purged meanwhile: then it is gone
}

// confirms reports whether an answer says what becomes of what is stored.
func (x *exchange) confirms(resp *http.Response) bool {
	return x.fetching && x.cached.decision.Action == httpcache.Confirm && resp.StatusCode == http.StatusNotModified
}

// confirmed is the answer that a 304 has made of what is stored; nil: it speaks of
// something else, so the provider has to be asked anew.
func (x *exchange) confirmed(resp *http.Response) *http.Response {
	c, cache := x.cached, x.g.cfg.Cache
	v, ok := httpcache.Freshen(&c.req, c.meta(), resp.Header, c.sent, x.headerT, &cache.Rules)
	if !ok { // what comes now takes its place
		c.decision.Action = httpcache.SendOn
		return nil
	}
	if !v.Store {
		cache.Store.Invalidate(c.primary)
	}
	c.verdict, c.renewed, x.rec.Cache = v, true, CacheRevalidated
	h := make(http.Header, len(v.Meta.Header)+1)
	v.Meta.CopyHeader(h, time.Now())
	return &http.Response{
		StatusCode: http.StatusOK, Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
		Header: h, Body: io.NopCloser(bytes.NewReader(c.stored.Body)), ContentLength: int64(len(c.stored.Body)),
	}
}
