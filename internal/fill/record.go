package fill

import (
	"slices"
	"time"
)

// maxMarks bounds what the times of an answer may take, however small its pieces
// are.
const maxMarks = 4096

// Mark is the end of a piece of an answer as it came.
type Mark struct {
	End int64         // bytes of the body up to here
	At  time.Duration // since the first byte
}

// record are the marks of an answer.
type record struct {
	marks []Mark
	began time.Time
}

func (r *record) add(end int64, now time.Time) {
	if len(r.marks) == maxMarks {
		r.thin()
	}
	r.marks = append(r.marks, Mark{End: end, At: now.Sub(r.began)})
}

// thin makes one piece of every two: nothing comes earlier than it did.
func (r *record) thin() {
	half := r.marks[:0]
	for i := 1; i < len(r.marks); i += 2 {
		half = append(half, r.marks[i])
	}
	r.marks = half
}

// Recorded is a copy of the answer and of its times, to be stored: as far as it has come, so
// the caller knows whether it is complete, or has called Close. It is not ok if the answer
// may not be stored: by its header, its length, Forget, Discard, or because it failed.
// Called before Close, it leaves no gap in which an identical request finds
// neither the fill nor what was stored.
func (w *Writer) Recorded() (body []byte, marks []Mark, ok bool) {
	f := w.f
	f.mu.Lock()
	if f.writer != w || !f.kept || !f.headed || w.over && f.err != nil {
		f.mu.Unlock()
		return nil, nil, false
	}
	b, total := f.first, f.total
	marks = slices.Clone(f.record.marks)
	f.mu.Unlock()

	body = make([]byte, 0, total)
	for ; b != nil; b = b.next { // only the writer's goroutine, which is this one, changes the chain
		body = append(body, b.data...)
	}
	return body, marks, true
}
