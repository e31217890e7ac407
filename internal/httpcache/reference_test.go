package httpcache_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache/cachetests"
)

// clock is time that passes when it is told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// reference is the smallest cache that the policy can drive: a map, one request
// at a time.
type reference struct {
	rules  httpcache.Rules
	now    func() time.Time
	origin func(method, target string, header http.Header) cachetests.Reply

	mu    sync.Mutex
	store map[string]map[string]entry // by method and target, then by variant
}

type entry struct {
	meta httpcache.Meta
	body string
}

// find is the stored response of a request, and the rest of its key.
func (c *reference) find(key string, header http.Header) (string, *entry) {
	for variant, e := range c.store[key] {
		if string(httpcache.AppendVariant(nil, e.meta.Vary, header)) == variant {
			return variant, &e
		}
	}
	return "", nil
}

func (c *reference) keep(key string, header http.Header, v httpcache.Verdict, body string) {
	if c.store[key] == nil {
		c.store[key] = map[string]entry{}
	}
	c.store[key][string(httpcache.AppendVariant(nil, v.Meta.Vary, header))] = entry{v.Meta, body}
}

func (c *reference) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	method, body := r.Method, ""
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if method == http.MethodPost {
			body = "\x00" + string(b)
		}
	}
	key := method + " " + r.URL.RequestURI() + body
	req := httpcache.NewRequest(r.Method, r.Header)
	variant, stored := c.find(key, r.Header)
	var meta *httpcache.Meta
	if stored != nil {
		meta = &stored.meta
	}
	d := httpcache.Evaluate(&req, meta, c.now(), &c.rules)
	status := d.Status()
	switch d.Action {
	case httpcache.Answer:
		return c.answer(&req, stored, d, status), nil
	case httpcache.Timeout:
		return reply(http.StatusGatewayTimeout, http.Header{}, "", status), nil
	}
	outbound := r.Header.Clone()
	if d.Action == httpcache.Confirm {
		httpcache.SetConditions(outbound, meta)
	}
	sent := c.now()
	got := c.origin(r.Method, r.URL.RequestURI(), outbound)
	if d.Action == httpcache.Confirm && got.Status == http.StatusNotModified && !got.Disconnect {
		v, ok := httpcache.Freshen(&req, meta, got.Header, sent, c.now(), &c.rules)
		if ok {
			delete(c.store[key], variant)
			e := entry{v.Meta, stored.body}
			if v.Store {
				c.keep(key, r.Header, v, stored.body)
			}
			d.NotModified = httpcache.NotModified(&req, &v.Meta)
			return c.answer(&req, &e, d, status), nil
		}
		delete(c.store[key], variant)
		outbound = r.Header.Clone()
		httpcache.ClearConditions(outbound)
		got = c.origin(r.Method, r.URL.RequestURI(), outbound)
	}
	if got.Disconnect {
		got.Status = 0
	}
	if httpcache.UseOnError(&req, meta, got.Status, c.now(), &c.rules) {
		return c.answer(&req, stored, d, status), nil
	}
	if got.Disconnect {
		return reply(http.StatusBadGateway, http.Header{}, "", status), nil
	}
	for _, target := range httpcache.Invalidates(r.Method, got.Status, got.Header, r.URL) {
		delete(c.store, "GET "+target)
	}
	if r.Method == http.MethodHead && stored != nil && got.Status == http.StatusOK {
		if v, ok := httpcache.FreshenHead(&req, meta, got.Header, sent, c.now(), &c.rules); ok && v.Store {
			c.keep(key, r.Header, v, stored.body)
		} else {
			delete(c.store[key], variant)
		}
	}
	if v := httpcache.Consider(&req, got.Status, got.Header, sent, c.now(), &c.rules); v.Store {
		status.Stored = true
		c.keep(key, r.Header, v, got.Body)
	} else if status.Detail == httpcache.ReasonNone {
		status.Detail = v.Reason
	}
	if r.Method == http.MethodHead {
		got.Body = ""
	}
	return reply(got.Status, got.Header, got.Body, status), nil
}

func (c *reference) answer(req *httpcache.Request, e *entry, d httpcache.Decision, status httpcache.Status) *http.Response {
	h := http.Header{}
	if d.NotModified {
		e.meta.CopyNotModified(h, c.now())
		return reply(http.StatusNotModified, h, "", status)
	}
	e.meta.CopyHeader(h, c.now())
	body := e.body
	if req.Method == http.MethodHead {
		body = ""
	}
	return reply(e.meta.Status, h, body, status)
}

func reply(code int, h http.Header, body string, status httpcache.Status) *http.Response {
	h = h.Clone()
	for _, name := range strings.Split(h.Get("Connection"), ",") {
		h.Del(strings.TrimSpace(name))
	}
	h.Del("Connection")
	status.Set(h)
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(bytes.NewReader([]byte(body)))}
}
