// Package capture turns the bodies that an event has captured into what is stored
// of them: streams merged into one answer, binary content left out, and secrets
// replaced.
package capture

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// MaxBody bounds what is looked at of a body, and so the time and the memory it
// takes; what is beyond is dropped, and the body counts as truncated.
const MaxBody = 4 << 20

// Config is what the operator says about captured bodies.
type Config struct {
	// Redact is what must not be stored. See [Redacted].
	Redact []*regexp.Regexp
}

// Processor brings captured bodies into the form in which they are stored. It is
// safe for concurrent use.
type Processor struct{ redact []*regexp.Regexp }

// New makes a processor.
func New(cfg Config) *Processor { return &Processor{redact: cfg.Redact} }

// Process replaces the event's captured bodies, which are bytes as they passed, by
// JSON text: an object, an array or a string, never anything else; of an empty body nothing.
// It belongs before everything that writes the event down, and off the request's path.
func (p *Processor) Process(ev *event.Event) {
	if ev.Request != "" {
		b := newBody(ev.Request, &ev.RequestTruncated, ev.BytesIn)
		ev.Request = p.store(b)
	}
	if ev.Response != "" {
		b := newBody(ev.Response, &ev.ResponseTruncated, ev.BytesOut)
		b.answer, b.array = true, strings.HasSuffix(ev.Endpoint, ":streamGenerateContent")
		ev.Response = p.store(b)
	}
}

// body is what was captured of one.
type body struct {
	data   []byte
	cut    bool  // its end is missing
	size   int64 // of the whole
	answer bool
	array  bool // a stream may come as a JSON array
}

func newBody(data string, cut *bool, size int64) body {
	if len(data) > MaxBody {
		data, *cut = data[:MaxBody], true
	}
	b := body{data: []byte(data), cut: *cut, size: int64(len(data))}
	if b.cut {
		b.size = max(b.size, size)
		b.data = wholeRunes(b.data)
	}
	return b
}

// store decides by a body's first bytes what it is: the content types that clients and
// providers name are too often wrong.
func (p *Processor) store(b body) string {
	b.data = bytes.TrimPrefix(b.data, []byte(byteOrderMark))
	text := bytes.TrimLeft(b.data, " \t\r\n")
	switch {
	case b.answer && isStream(text):
		return p.json(mergeStream(payloads(text, b.cut)), b.cut)
	case b.array && len(text) > 0 && text[0] == '[':
		if elements, ok := arrayElements(text, b.cut); ok {
			return p.json(mergeStream(elements), b.cut)
		}
	case isForm(text):
		return omitted("multipart/form-data", b.size)
	}
	looksJSON := len(text) > 0 && strings.IndexByte(`{["`, text[0]) >= 0
	switch {
	case !isText(b.data) && !(looksJSON && isValid(text)):
		return omitted(binaryType(b.data), b.size)
	case looksJSON:
		return p.json(text, b.cut)
	}
	return quote(p.clean(string(b.data), b.cut))
}
