package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// maxCached is the longest body that is stored.
const maxCached = 4 << 10

// cachePool is a store with the fills of the same cache, which purges and
// invalidations have to reach as well.
type cachePool struct {
	*respcache.Tiered
	fills *fill.Group
}

func newCachePool(t testing.TB) *cachePool {
	t.Helper()
	store, err := respcache.New(respcache.Options{Memory: respcache.MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	return &cachePool{store, fill.New(fill.Options{MaxObject: maxCached, MaxLag: maxCached})}
}

func (p *cachePool) close() {
	p.fills.Close()
	p.Close()
}

// Invalidate implements [gateway.CacheStore].
func (p *cachePool) Invalidate(primary respcache.Key) {
	p.Tiered.Invalidate(primary)
	p.fills.Forget(func(key fill.Key, _ any) bool { return respcache.Key(key) == primary })
}

func (p *cachePool) purge(sel respcache.Selector) error {
	_, err := p.Purge(context.Background(), sel)
	p.fills.Forget(func(key fill.Key, about any) bool {
		primary := respcache.Key(key)
		return sel.Matches(&primary, about.(*respcache.Tags))
	})
	return err
}

// unleased needs nothing kept open.
type unleased struct{}

func (unleased) Acquire() bool { return true }
func (unleased) Release()      {}

// tenant is a client with a token.
type tenant struct{ name, project, token string }

// asked is a client's request, and how it was answered.
type asked struct {
	id       int
	tenant   *tenant
	method   string
	target   string
	question string // of a POST; what is asked, in one of its spellings
	spelling int
	stream   bool
	wants    wants
	language string
	accept   string
	beta     string
	has      int           // serial that If-None-Match names; 0: none
	leave    time.Duration // the client leaves after that; 0: it stays
	plan     plan          // what the origin answers if it is asked for this

	begun, over int64 // in the order of events
	begunAt     time.Time

	rec     gateway.Record
	aborted bool
	status  int
	at      time.Time // when the header came
	header  http.Header
	sent    http.Header
	body    bytes.Buffer
}

func (a *asked) Header() http.Header { return a.header }
func (a *asked) Flush()              {}

func (a *asked) WriteHeader(status int) {
	a.status, a.at, a.sent = status, time.Now(), a.header.Clone()
}

func (a *asked) Write(p []byte) (int, error) { return a.body.Write(p) }

// text is the body of a POST: its members in either order are the same question.
func (a *asked) text() string {
	model, messages := `"model":"m1"`, `"messages": [{"role":"user","content":"`+a.question+`"}]`
	if a.spelling == 1 {
		model, messages = messages, model
	}
	if a.stream {
		messages += `,"stream":true,"stream_options":{"include_usage":true}`
	}
	return "{" + model + "," + messages + "}"
}

// fetched is an answer of the origin.
type fetched struct {
	plan
	serial   int
	by       *asked
	status   int
	confirms int    // of a 304 or the answer to a HEAD: the serial of what is still right
	body     string // whole
	received int64  // in the order of events
	sentAt   time.Time
	headAt   time.Time
	endAt    time.Time // zero: it has not ended
}

// purged is a purge.
type purged struct {
	sel          respcache.Selector
	begun, ended int64
}

// cacheWorld is a gateway with a cache, its clients and its origin, all of whose
// doings are noted.
type cacheWorld struct {
	rig     *rig
	pool    *cachePool
	rules   httpcache.Rules
	tenants []*tenant
	clock   atomic.Int64
	serving sync.WaitGroup

	purged []*purged

	mu      sync.Mutex // guards what follows, and when which request was over
	asked   []*asked
	fetched []*fetched // by serial, less one
}

func newCacheWorld(t testing.TB, rules httpcache.Rules, paced bool) *cacheWorld {
	w := &cacheWorld{pool: newCachePool(t), rules: rules}
	w.rig = newRig(t, setup{upstream: roundTripper(w.answer), gateway: func(c *gateway.Config) {
		c.Cache = &gateway.Cache{
			Store: w.pool, Fills: w.pool.fills, Rules: rules, Paced: paced, Lease: func() fill.Lease { return unleased{} },
		}
	}})
	for p := range 2 {
		id := w.rig.store.addProject(nil)
		for k := range 2 {
			token, _ := w.rig.store.addToken(t, id, nil)
			w.tenants = append(w.tenants, &tenant{fmt.Sprintf("p%d/t%d", p, k), id.String(), token})
		}
	}
	return w
}

// close lets every request come to its end first.
func (w *cacheWorld) close() {
	w.serving.Wait()
	w.pool.close()
}

// ask begins a request.
func (w *cacheWorld) ask(a *asked) {
	w.mu.Lock()
	w.asked = append(w.asked, a)
	a.id = len(w.asked)
	w.mu.Unlock()
	a.header, a.begun, a.begunAt = make(http.Header), w.clock.Add(1), time.Now()
	w.serving.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if a.leave > 0 {
			defer time.AfterFunc(a.leave, cancel).Stop()
		}
		a.aborted = w.rig.serve(a, a.request(ctx), &a.rec)
		w.mu.Lock()
		defer w.mu.Unlock()
		a.over = w.clock.Add(1)
	})
}

func (a *asked) request(ctx context.Context) *http.Request {
	var body io.Reader = http.NoBody
	if a.method == http.MethodPost {
		body = strings.NewReader(a.text())
	}
	req := httptest.NewRequestWithContext(ctx, a.method, a.target, body)
	set := func(name, value string) {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	set("Authorization", "Bearer "+a.tenant.token)
	set("X-Stainless-Request", strconv.Itoa(a.id)) // which the provider sees
	set("Accept-Language", a.language)
	set("Accept", a.accept)
	set("OpenAI-Beta", a.beta)
	set("Cache-Control", a.wants.String())
	if a.method == http.MethodPost {
		set("Content-Type", "application/json")
	}
	if a.wants.pragma {
		set("Pragma", "no-cache")
	}
	if a.has > 0 {
		set("If-None-Match", etagOf(a.has))
	}
	return req
}

// purge purges.
func (w *cacheWorld) purge(sel respcache.Selector) error {
	p := &purged{sel: sel, begun: w.clock.Add(1)}
	err := w.pool.purge(sel)
	p.ended = w.clock.Add(1)
	w.purged = append(w.purged, p)
	return err
}

func etagOf(serial int) string { return fmt.Sprintf(`"s%d"`, serial) }

var serials = regexp.MustCompile(`^(?:"s|/serials/)(\d+)"?$|serial (\d+) for `)

// serialIn reads the serial from an entity tag, a Content-Location or a body.
func serialIn(text string) int {
	m := serials.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1] + m[2]) // digits
	return n
}

var errOriginGone = errors.New("connection refused")

// answer is the origin, which does for each request what that one's plan says.
func (w *cacheWorld) answer(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = req.Body.Close()
	}
	f := w.receive(req)
	if f.wait > 0 {
		select {
		case <-time.After(f.wait):
		case <-req.Context().Done():
			w.end(f)
			return nil, req.Context().Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.headAt = time.Now()
	if f.status == 0 {
		f.endAt = f.headAt
		return nil, errOriginGone
	}
	resp := reply(f.status, "application/json", "")
	f.settle(req, w.fetched)
	resp.StatusCode = f.status
	f.describe(resp.Header)
	if f.status == http.StatusNotModified || req.Method == http.MethodHead {
		f.endAt = f.headAt
		return resp, nil
	}
	resp.ContentLength = int64(len(f.body))
	half := len(f.body) / 2
	body := &script{pieces: []piece{at(f.body[:half]), {f.pause, f.body[half:]}}, gone: req.Context().Done()}
	switch {
	case f.ending == broken:
		body.pieces, body.end = body.pieces[:1], io.ErrUnexpectedEOF
	case f.ending == unframed, f.by.stream && f.status == http.StatusOK:
		resp.ContentLength = -1
	}
	if resp.ContentLength >= 0 {
		resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	resp.Body = &noted{script: body, end: sync.OnceFunc(func() { w.end(f) })}
	return resp, nil
}

func (w *cacheWorld) receive(req *http.Request) *fetched {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, _ := strconv.Atoi(req.Header.Get("X-Stainless-Request")) // as request wrote it
	by := w.asked[id-1]
	f := &fetched{plan: by.plan, serial: len(w.fetched) + 1, by: by, status: by.plan.status, received: w.clock.Add(1), sentAt: time.Now()}
	f.body = f.text()
	w.fetched = append(w.fetched, f)
	return f
}

func (w *cacheWorld) end(f *fetched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.endAt = time.Now()
}

// noted is a body whose end is noted.
type noted struct {
	*script
	end func()
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.script.Read(p)
	if err != nil {
		n.end()
	}
	return k, err
}

func (n *noted) Close() error {
	n.end()
	return nil
}
