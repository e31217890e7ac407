package fill

import (
	"context"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// fill is an answer on its way from one writer to its readers.
type fill struct {
	g     *Group
	key   Key
	about any

	mu       sync.Mutex
	joinable bool
	listed   bool // the group's map may hold it
	kept     bool // the whole chain is, for those who come late and for the store
	retried  bool // the writer is the second one
	ended    bool
	err      error // why it ended; nil: properly
	headed   bool
	head     Head
	trailer  http.Header

	first, last *block // first is nil unless kept
	total       int64  // bytes of the body
	record      record

	writer  *Writer   // of the current attempt
	readers []*Reader // in no order
	asleep  int       // readers that wait to be woken

	front    int64         // how far the fastest reader has got
	patience int64         // up to this total, no reader is too far behind
	blocked  bool          // the writer waits for the readers
	room     chan struct{} // wakes it
}

// launch starts the Run of a reader, which becomes the leader.
func (f *fill) launch(r *Reader) {
	r.role = Leader
	s := &r.start
	var base context.Context = f.g.ctx
	if s.Values != nil {
		base = valued{base, s.Values}
	}
	w := &Writer{f: f, start: s}
	w.ctx, w.cancel = context.WithCancelCause(base)
	f.writer = w
	held := s.Lease == nil || s.Lease.Acquire()
	// The count is not zero here when Close waits: Join looks whether the group is
	// closed, and a second launch is called by a Run.
	f.g.wg.Add(1)
	go f.run(w, held)
}

func (f *fill) run(w *Writer, held bool) {
	// A lease may close the group when it is released: it must not wait for us then.
	if held && w.start.Lease != nil {
		defer w.start.Lease.Release()
	}
	defer f.g.wg.Done()
	defer w.cancel(nil)
	defer f.conclude(w)
	if !held {
		w.Fail(ErrClosed)
		return
	}
	w.start.Run(w.ctx, w)
}

// conclude ends what Run has left open. A panic there would be the end of a request
// if the request's own goroutine ran it; here it would be the end of the process.
func (f *fill) conclude(w *Writer) {
	if v := recover(); v != nil && v != http.ErrAbortHandler {
		f.g.opts.Logger.Error("panic in the request for a shared answer", "panic", v, "stack", string(debug.Stack()))
	}
	w.Fail(ErrIncomplete)
	f.mu.Lock()
	if f.writer == w {
		f.release() // stored by now, or never
	}
	f.unlock()
}

// unlock also takes the fill out of its group's map when it has become unjoinable.
func (f *fill) unlock() {
	unlist := f.listed && !f.joinable
	if unlist {
		f.listed = false
	}
	f.mu.Unlock()
	if unlist {
		f.g.unlist(f)
	}
}

// join makes r a follower, if that is possible.
func (f *fill) join(r *Reader) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.joinable {
		return false
	}
	r.joined = f.total
	f.attach(r)
	return true
}

func (f *fill) attach(r *Reader) {
	r.f, r.block = f, f.first
	r.index = len(f.readers)
	f.readers = append(f.readers, r)
}

// detach takes a reader out; err is what it gets from now on.
func (f *fill) detach(r *Reader, err error) {
	final := len(f.readers) - 1
	f.readers[r.index] = f.readers[final]
	f.readers[r.index].index = r.index
	f.readers[final] = nil
	f.readers = f.readers[:final]
	r.index, r.err, r.block = detached, err, nil
	f.wake(r)
	if f.ended {
		return
	}
	if r.done == f.front && f.front > 0 {
		f.front = f.furthest(f.front)
	}
	f.makeRoom()
}

// furthest is how far the fastest reader has got, which is not beyond the limit.
func (f *fill) furthest(limit int64) (front int64) {
	for _, r := range f.readers {
		if front = max(front, r.done); front == limit {
			break
		}
	}
	return front
}

func (f *fill) wake(r *Reader) {
	if r.asleep {
		r.asleep = false
		f.asleep--
		r.bell <- struct{}{} // has room: it is emptied before a reader sleeps again
	}
}

func (f *fill) wakeAll() {
	for i := 0; f.asleep > 0; i++ {
		f.wake(f.readers[i])
	}
}

// makeRoom wakes the writer if it has waited for what has happened.
func (f *fill) makeRoom() {
	if f.blocked && f.mayWrite() {
		f.blocked = false
		f.room <- struct{}{}
	}
}

// mayWrite is whether the fastest reader has kept up. One that is alone is the
// fastest: it is waited for, as it would be if nobody could share its answer.
func (f *fill) mayWrite() bool {
	return len(f.readers) == 0 || f.total-f.front <= f.g.opts.Window
}

// cutSlow cuts off whom the others have left too far behind: never the first of them.
func (f *fill) cutSlow() {
	if f.total <= f.patience {
		return
	}
	slowest := f.total
	for i := len(f.readers) - 1; i >= 0; i-- {
		r := f.readers[i]
		at := max(r.done, r.joined)
		if f.total-at > f.g.opts.MaxLag && r.done < f.front {
			f.detach(r, ErrTooSlow) // moves one here that has been looked at
			continue
		}
		slowest = min(slowest, at)
	}
	f.patience = slowest + f.g.opts.MaxLag
}

// release gives up the chain, except for what readers have yet to read.
func (f *fill) release() {
	f.joinable, f.kept = false, false
	f.first, f.record.marks = nil, nil
}

// abandon cancels the fill if nobody needs it.
func (f *fill) abandon() {
	if f.ended || len(f.readers) > 0 {
		return
	}
	expected := f.writer.start.Expected
	if f.headed {
		expected = f.head.Storable
	}
	if f.kept && expected && !f.g.opts.CancelUnread {
		return
	}
	f.release()
	f.writer.cancel(ErrAbandoned)
}

func (f *fill) end(err error) {
	f.ended, f.err, f.joinable = true, err, false
	if err != nil {
		f.release()
	}
	f.wakeAll()
}

// fail ends the attempt of w. Without a byte, one of the followers makes the second, and
// the others wait for that one.
func (f *fill) fail(w *Writer, err error) {
	if f.total > 0 || f.retried || f.g.ctx.Err() != nil {
		f.end(err)
		return
	}
	for _, r := range f.readers {
		if r.role == Leader {
			f.detach(r, err)
			break
		}
	}
	if len(f.readers) == 0 {
		f.end(err)
		return
	}
	f.retried = true
	f.headed, f.head, f.trailer = false, Head{}, nil
	f.first, f.last = nil, nil // what the writer may have made room in
	for _, r := range f.readers {
		r.block = nil
	}
	f.launch(f.readers[0])
}

// extend appends an empty block.
func (f *fill) extend(size int) *block {
	b := &block{data: make([]byte, 0, size)}
	if f.last != nil {
		f.last.next = b
	} else {
		if f.kept {
			f.first = b
		}
		for _, r := range f.readers {
			r.block = b
		}
	}
	f.last = b
	return b
}

// grow publishes n bytes more of the last block.
func (f *fill) grow(n int) {
	now := time.Now()
	if f.total == 0 {
		f.record.began = now
	}
	f.last.data = f.last.data[:len(f.last.data)+n]
	f.total += int64(n)
	switch {
	case !f.kept:
	case f.total > f.g.opts.MaxObject:
		f.release()
		f.abandon()
	default:
		f.record.add(f.total, now)
	}
	f.cutSlow()
	f.wakeAll()
}
