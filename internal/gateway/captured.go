package gateway

import "github.com/sofatutor/caddy-llm-proxy/internal/event"

// captured is the beginning of a body, for the event.
type captured struct {
	limit     int
	data      []byte
	truncated bool
}

// add keeps a copy of p, as far as there is room.
func (c *captured) add(p []byte) {
	if c.limit == 0 {
		return
	}
	if room := c.limit - len(c.data); len(p) > room {
		p, c.truncated = p[:room], true
	}
	c.data = append(c.data, p...)
}

// captureRequest is for a body that nobody changes any more.
func (x *exchange) captureRequest(body []byte) {
	c := &x.meter.request
	if c.limit = x.g.cfg.Capture.Request; c.limit == 0 || x.upload {
		return
	}
	c.data, c.truncated = body[:min(len(body), c.limit)], len(body) > c.limit
}

func (x *exchange) fillCaptured(ev *event.Event) {
	m := &x.meter
	if len(m.request.data) == 0 && len(m.response.data) == 0 {
		return
	}
	ev.Prepare = x.g.cfg.Prepare
	ev.Request, ev.RequestTruncated = string(m.request.data), m.request.truncated
	ev.Response, ev.ResponseTruncated = string(m.response.data), m.response.truncated
}
