package fill

import (
	"context"
	"io"
	"net/http"
)

// Writer is where a fill's Run puts the answer. It is for that goroutine alone.
type Writer struct {
	f      *fill
	start  *Start
	ctx    context.Context
	cancel context.CancelCauseFunc
	over   bool // guarded by the fill's lock
}

// Epoch is the one that the Start was given. The answer may be stored only if
// no purge has happened since: the caller compares and stores in one step.
func (w *Writer) Epoch() uint64 { return w.start.Epoch }

// Readers is how many there are right now.
func (w *Writer) Readers() int {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	return len(w.f.readers)
}

// Header begins the answer. If it may not be stored, it is the leader's alone.
func (w *Writer) Header(h Head) error {
	f := w.f
	f.mu.Lock()
	defer f.unlock()
	switch {
	case w.over:
		return errEnded
	case f.headed:
		return errSecondHeader
	}
	f.headed, f.head = true, h
	if !h.Storable || h.Length > f.g.opts.MaxObject {
		f.release()
	}
	if !h.Storable {
		for i := len(f.readers) - 1; i >= 0; i-- {
			if r := f.readers[i]; r.role == Follower {
				f.detach(r, ErrNotShared)
			}
		}
	}
	for _, r := range f.readers {
		if r.role == Leader { // followers wait for the first byte
			f.wake(r)
		}
	}
	f.abandon()
	return context.Cause(w.ctx)
}

// Buffer waits until the readers are ready for more, and returns room for it. What is put there
// is published by Commit.
func (w *Writer) Buffer() ([]byte, error) { return w.buffer(w.f.g.opts.blocks.room) }

func (w *Writer) buffer(want int) ([]byte, error) {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := w.await(); err != nil {
		return nil, err
	}
	b, sizes := f.last, f.g.opts.blocks
	if b == nil || cap(b.data)-len(b.data) < min(want, sizes.room) {
		size := 0
		if b != nil {
			size = cap(b.data)
		}
		b = f.extend(sizes.after(size, f.head.Length))
	}
	return b.data[len(b.data):cap(b.data)], nil
}

// Commit publishes the first n bytes of what Buffer returned.
func (w *Writer) Commit(n int) error {
	f := w.f
	f.mu.Lock()
	defer f.unlock()
	if err := w.check(); err != nil {
		return err
	}
	if n > 0 {
		f.grow(n)
	}
	return nil
}

// Write implements [io.Writer]: it copies p into the answer, waiting for the
// readers where needed.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		room, err := w.buffer(len(p))
		if err != nil {
			return n, err
		}
		k := copy(room, p)
		if err := w.Commit(k); err != nil {
			return n, err
		}
		n, p = n+k, p[k:]
	}
	return n, nil
}

// ReadFrom implements [io.ReaderFrom]: it reads the body of an answer into
// place, without a copy. The answer's end is still to be told.
func (w *Writer) ReadFrom(body io.Reader) (n int64, err error) {
	for {
		room, err := w.Buffer()
		if err != nil {
			return n, err
		}
		k, readErr := body.Read(room)
		if err := w.Commit(k); err != nil {
			return n, err
		}
		n += int64(k)
		if readErr == io.EOF {
			return n, nil
		} else if readErr != nil {
			return n, readErr
		}
	}
}

// Discard says that the answer will not be stored after all. Who reads it reads on, nobody
// joins.
func (w *Writer) Discard() {
	f := w.f
	f.mu.Lock()
	defer f.unlock()
	if f.writer == w {
		f.release()
		f.abandon()
	}
}

// Trailer is what readers get behind the body.
func (w *Writer) Trailer(h http.Header) {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	if !w.over {
		w.f.trailer = h
	}
}

// Close is the proper end: the answer is complete. From now on nobody joins.
func (w *Writer) Close() error {
	f := w.f
	f.mu.Lock()
	defer f.unlock()
	switch {
	case w.over:
		return errEnded
	case !f.headed:
		return errNoHeader
	}
	w.over = true
	f.end(nil)
	return nil
}

// Fail is any other end. Readers get err behind what there is of the answer. It does
// nothing if the answer has ended.
func (w *Writer) Fail(err error) {
	f := w.f
	f.mu.Lock()
	defer f.unlock()
	if w.over {
		return
	}
	if w.over = true; err == nil {
		err = ErrIncomplete
	}
	f.fail(w, err)
}

// check is why the answer cannot go on. The fill's lock is held.
func (w *Writer) check() error {
	switch {
	case w.over:
		return errEnded
	case !w.f.headed:
		return errNoHeader
	}
	return context.Cause(w.ctx)
}

// await returns when the readers are ready for more. The fill's lock is held, but
// not while it waits.
func (w *Writer) await() error {
	f := w.f
	for {
		if err := w.check(); err != nil {
			return err
		}
		if f.mayWrite() {
			return nil
		}
		if f.room == nil {
			f.room = make(chan struct{}, 1)
		}
		f.blocked = true
		f.mu.Unlock()
		select {
		case <-f.room:
		case <-w.ctx.Done(): // nothing will be written any more, nor waited for
		}
		f.mu.Lock()
		f.blocked = false
	}
}
