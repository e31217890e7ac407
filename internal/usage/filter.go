package usage

import (
	"encoding/json"
	"io"
)

// Filter takes the frames out of an OpenAI stream that are there because usage
// was asked for on the client's behalf: those with a usage and without choices.
// Everything else passes untouched, each byte in its order, and at once but for the
// beginning of an event, up to where it shows that it has choices or no usage; of
// a real chunk that is its first 200 bytes or so, which arrive together. Bytes
// are held over a call only then, and no more than maxHeld.
//
// A Filter may be part of another struct, and is used again after a Reset. It is not
// safe for concurrent use.
type Filter struct {
	w       io.Writer
	framer  framer
	walker  walker
	held    []byte // the beginning of an event that is not decided, from earlier calls
	phase   phase
	begun   bool // the event has data
	tail    bool // the LF after a CR has gone the way of its frame: away
	choices uint8
	usage   uint8
	removed int
}

// maxHeld is far beyond a frame that holds nothing but usage.
const maxHeld = 16 << 10

type phase uint8

const (
	phaseBetween phase = iota // no event is under way
	phaseOpen                 // the event may be one to take out
	phasePass                 // it is none
)

// filterTree is what decides.
var filterTree = root(
	array("choices", (&node{role: roleChoice}).settle()).as(roleChoices),
	value("usage", roleUsage),
	value("error", roleError),
)

// Reset makes the filter ready for a stream that goes to w.
func (f *Filter) Reset(w io.Writer) { *f = Filter{w: w, held: f.held[:0]} }

// Write passes p on, less what is taken out or not decided yet. It may write
// several times, or not at all. Its errors are those of the writer.
func (f *Filter) Write(p []byte) (int, error) {
	from := 0   // of what is to pass: not written, and not held
	opened := 0 // where the open event begins in p; before p if it is held
	for at := 0; at < len(p); {
		t, n := f.framer.next(p[at:])
		was := f.phase
		drop := f.take(t, p[at:at+n])
		switch {
		case was == phaseBetween && f.phase == phaseOpen:
			opened = at
		case was == phaseOpen && f.phase != phaseOpen && drop && f.confirm(p[opened:at+n]):
			if err := f.pass(p[from:max(opened, from)]); err != nil {
				return 0, err
			}
			f.held, from = f.held[:0], at+n
		case was == phaseOpen && f.phase != phaseOpen:
			if err := f.release(); err != nil {
				return 0, err
			}
		case drop: // the second half of a line end
			if err := f.pass(p[from:at]); err != nil {
				return 0, err
			}
			from = at + n
		}
		at += n
	}
	if f.phase == phaseOpen {
		if len(f.held)+len(p)-opened <= maxHeld {
			err := f.pass(p[from:max(opened, from)])
			f.held = append(f.held, p[opened:]...)
			return len(p), err
		}
		f.phase = phasePass
		if err := f.release(); err != nil {
			return 0, err
		}
	}
	return len(p), f.pass(p[from:])
}

// Close passes on what is held: the stream ends in the middle of an event, and
// it is not for the filter to complete it or to take it away.
func (f *Filter) Close() error {
	f.phase = phasePass
	return f.release()
}

func (f *Filter) release() error {
	err := f.pass(f.held)
	f.held = f.held[:0]
	return err
}

func (f *Filter) pass(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := f.w.Write(p)
	return err
}

// confirm has the last word on an event that is to be taken out, of which rest
// is not held: the walker, which had to decide while it came, does not see every
// fault, and what is not JSON is not ours to judge. Neither is what would not have
// been held, had it come in more pieces.
func (f *Filter) confirm(rest []byte) bool {
	if len(f.held)+len(rest) > maxHeld {
		return false
	}
	data := make([]byte, 0, len(f.held)+len(rest))
	cut := framer{bom: 3}
	for _, p := range [...][]byte{f.held, rest} {
		for len(p) > 0 {
			t, n := cut.next(p)
			if t == tokenData || t == tokenDataEnd {
				data = append(data, p[:n]...)
			}
			p = p[n:]
		}
	}
	f.tail = json.Valid(data)
	if f.tail {
		f.removed++
	}
	return f.tail
}

// Removed is how many events were taken out.
func (f *Filter) Removed() int { return f.removed }

// take goes on by a token and reports whether it completes what is to be taken out.
func (f *Filter) take(t token, p []byte) (drop bool) {
	tail := f.tail
	f.tail = false
	switch t {
	case tokenTail:
		return tail
	case tokenComment, tokenMark:
		return false // comments keep connections alive: they pass, unless inside an open event
	case tokenFrame:
		drop = f.phase == phaseOpen && f.begun && f.usageOnly()
		f.phase, f.begun = phaseBetween, false
		f.choices, f.usage = 0, 0
		return drop
	}
	if f.phase == phaseBetween {
		f.phase = phaseOpen
	}
	if f.phase == phasePass {
		return false
	}
	switch t {
	case tokenData:
		if !f.begun {
			f.begun = true
			f.walker.reset(filterTree)
		}
		f.walker.write(p, f)
	case tokenDataEnd:
		if f.begun {
			f.walker.write(newline, f)
		}
	}
	if f.begun && f.walker.state == walkBad {
		f.phase = phasePass
	}
	return false
}

func (f *Filter) usageOnly() bool {
	return f.walker.state == walkDone && f.choices == 1 && f.usage == 1
}

// begin implements visitor: what decides that the event passes.
func (f *Filter) begin(n *node, first byte) {
	switch n.role {
	case roleDocument:
		if first == '{' {
			return
		}
	case roleChoices:
		if f.choices++; first == '[' && f.choices == 1 {
			return
		}
	case roleUsage:
		if f.usage++; first == '{' && f.usage == 1 {
			return
		}
	case roleError:
		if first == 'n' {
			return
		}
	}
	f.phase = phasePass
}

func (*Filter) end(*node)                 {}
func (*Filter) text(*node, []byte, int64) {}
func (*Filter) number(*node, []byte)      {}
