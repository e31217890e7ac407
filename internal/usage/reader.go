// Package usage reads out of an answer's bytes, as they pass, what it has used:
// for every dialect, streamed or not, in memory that does not grow. It can also
// make an OpenAI stream report its usage, and hide the report again from a client
// that did not ask for it.
package usage

import (
	"mime"
	"strings"
)

// Reader reads one answer. Bytes may come in any pieces; none are kept but those
// of a key, a number or a short text. It never fails: what it does not
// understand it passes over. A Reader is about 2 KiB, may be part of another
// struct, and is used again after a Reset. It is not safe for concurrent use.
type Reader struct {
	kind   Kind
	mode   mode
	form   *form
	framer framer
	walker walker
	doc    document
	total  raw

	begun   bool // the event's data has begun
	json    bool // and is JSON
	event   code // its name
	mark    code // its data, if that is not JSON
	content int64
	seen    bool // of content
	ended   bool
	final   bool
	failed  bool
	pending bool
	billed  bool // it was an event with a bill
	finish  Finish
	errType code
	errCode code
	id      string
	model   string
	tier    string
}

type mode uint8

const (
	modeOff    mode = iota
	modeBody        // one document
	modeEvents      // server-sent events
)

// Reset makes the reader ready for an answer of a kind, with the Content-Type
// that it came with. A reader of what has no usage, such as audio, costs nothing.
func (r *Reader) Reset(kind Kind, contentType string) {
	*r = Reader{kind: kind}
	if kind >= kinds {
		return
	}
	r.form = &forms[kind]
	switch mediaType(contentType) {
	case "text/event-stream":
		if r.form.event != nil {
			r.mode = modeEvents
		}
	case "application/json", "":
		if r.form.body != nil {
			r.mode = modeBody
			r.walker.reset(r.form.body)
		}
	}
}

// mediaType avoids the parser for what providers really send.
func mediaType(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	switch kind {
	case "text/event-stream", "application/json", "":
		return kind
	}
	kind, _, _ = mime.ParseMediaType(contentType)
	if strings.HasSuffix(kind, "+json") {
		return "application/json"
	}
	return kind
}

// Active reports whether there is anything to read: if not, Write can be left out.
func (r *Reader) Active() bool { return r.mode != modeOff }

// Write reads on. It implements [io.Writer], and always takes all.
func (r *Reader) Write(p []byte) (int, error) {
	switch r.mode {
	case modeBody:
		r.walker.write(p, r)
	case modeEvents:
		r.writeEvents(p)
	}
	return len(p), nil
}

func (r *Reader) writeEvents(p []byte) {
	for len(p) > 0 {
		t, n := r.framer.next(p)
		switch t {
		case tokenData:
			r.writeData(p[:n])
		case tokenDataEnd:
			if r.json {
				r.walker.write(newline, r)
			}
		case tokenEvent:
			r.event.append(p[:n])
		case tokenFrame:
			r.endFrame()
		}
		p = p[n:]
	}
}

var newline = []byte{'\n'}

func (c *code) append(p []byte) { c.n += uint8(copy(c.text[c.n:], p)) }

func (r *Reader) writeData(p []byte) {
	if !r.begun {
		for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
			p = p[1:]
		}
		if len(p) == 0 {
			return
		}
		r.begun = true
		if r.json = p[0] == '{'; r.json {
			r.walker.reset(r.form.event)
		}
	}
	if r.json {
		r.walker.write(p, r)
	} else {
		r.mark.append(p)
	}
}

func (r *Reader) endFrame() {
	if r.begun && strings.TrimSpace(r.event.String()) == "error" {
		r.failed = true
	}
	if r.begun && !r.json && strings.TrimRight(r.mark.String(), " \t") == "[DONE]" {
		r.ended = true
	}
	r.begun, r.json, r.event.n, r.mark.n = false, false, 0, 0
}

// begin implements visitor.
func (r *Reader) begin(n *node, first byte) {
	r.doc.present &^= n.clears
	switch n.role {
	case roleDocument:
		r.doc.reset()
	case roleUsage:
		r.doc.usageDone = false
	case roleError:
		r.doc.failed = first == '{' || first == '"'
		r.doc.errorType.n, r.doc.errorCode.n = 0, 0
	case roleItem:
		if first == '{' {
			r.doc.add(n.field, 1)
		}
	case roleDetail:
		r.doc.modality, r.doc.detail = modalityOther, 0
	}
}

// end implements visitor.
func (r *Reader) end(n *node) {
	switch n.role {
	case roleDocument:
		r.commit()
	case roleUsage:
		r.doc.usageDone = true
	case roleDetail:
		r.doc.endDetail(n)
	}
}

// text implements visitor.
func (r *Reader) text(n *node, s []byte, size int64) {
	switch n.role {
	case roleContent:
		r.content += size
		r.seen = r.seen || size > 0
		return
	case roleBlob:
		r.seen = r.seen || size > 0
		return
	case roleImage:
		r.seen = true
	}
	if size > maxText {
		s = nil
	}
	switch n.role {
	case roleModel:
		keep(&r.model, s)
	case roleTier:
		keep(&r.tier, s)
	case roleID:
		keep(&r.id, s)
	default:
		r.doc.text(n, s)
	}
}

// keep makes a string only of what has changed: most of it is on every event.
func keep(dst *string, s []byte) {
	if len(s) > 0 && *dst != string(s) && printable(s) {
		*dst = string(s)
	}
}

// number implements visitor.
func (r *Reader) number(n *node, literal []byte) { r.doc.number(n, literal) }

// commit takes over what a complete document has told.
func (r *Reader) commit() {
	d := &r.doc
	r.total.merge(&d.raw)
	r.finish = merged(r.finish, d.finish)
	if d.stated {
		r.pending = d.pending
	}
	r.billed = d.event == eventResponse || d.event == eventTranscript
	switch d.event {
	case eventError:
		d.failed = true
		if d.errorCode.n == 0 {
			d.errorCode = d.topCode
		}
	case eventImage:
		r.total.add(fImages, 1)
		r.ended = true
	case eventStop, eventResponse, eventDone:
		r.ended = true
	}
	if d.failed {
		r.failed, r.errType, r.errCode = true, d.errorType, d.errorCode
	}
	switch {
	case r.mode == modeBody && r.kind != KindGenerate:
		r.ended = true
	case r.kind == KindGenerate:
		r.ended = r.ended || d.finish != FinishNone || r.walker.depth == 0 && r.mode == modeBody
	}
	if d.present&reported != 0 && (r.finish != FinishNone || r.ended) {
		r.final = true
	}
	d.reset()
}
