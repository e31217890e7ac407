package fill

import (
	"context"
	"io"
	"net/http"
)

// detached is the index of a reader that its fill does not know any more.
const detached = -1

// Reader is one request's view of an answer. It is for one goroutine, except for
// Role.
type Reader struct {
	f     *fill // nil: none was to be had
	start Start

	// The fill's lock guards what follows.
	role   Role
	index  int // in the fill's readers
	err    error
	block  *block // nil: nothing has come yet
	offset int    // of what is next in it
	taken  int    // bytes handed out by the last Next
	done   int64  // bytes that the caller is done with
	joined int64  // bytes that were there already
	asleep bool
	bell   chan struct{}
}

// Chunk is a piece of an answer. It is never changed, by nobody.
type Chunk struct {
	Data []byte
	// More says that the next one is there already: there is no need to flush.
	More bool
}

// Role is the reader's, which a follower's may change while it waits in Header:
// to Leader, once, and then its Run has been started. After Close it does not change.
func (r *Reader) Role() Role {
	if r.f == nil {
		return r.role
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.role
}

// Header waits for how the answer begins: a follower until there is a byte of
// the body, for up to then another may have to ask again. [ErrNotShared] means that the
// request has to go upstream itself.
func (r *Reader) Header(ctx context.Context) (Head, error) {
	f := r.f
	if f == nil {
		return Head{}, r.err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case r.err != nil:
			return Head{}, r.err
		case f.headed && (f.total > 0 || r.role == Leader || f.ended && f.err == nil):
			return f.head, nil
		case f.ended:
			return Head{}, f.err
		}
		if err := r.sleep(ctx); err != nil {
			return Head{}, err
		}
	}
}

// Next waits for more of the answer. The error is io.EOF at the proper end, and
// only there. What was returned before counts as done with: so a reader that is
// still busy with it holds the fill up, or falls behind.
func (r *Reader) Next(ctx context.Context) (Chunk, error) {
	f := r.f
	if f == nil {
		return Chunk{}, r.err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r.advance()
	for {
		switch {
		case r.err != nil:
			return Chunk{}, r.err
		case r.available():
			b := r.block
			data := b.data[r.offset:len(b.data):len(b.data)]
			r.taken, r.offset = len(data), len(b.data)
			return Chunk{Data: data, More: r.available()}, nil
		case f.ended && f.err != nil:
			return Chunk{}, f.err
		case f.ended:
			return Chunk{}, io.EOF
		}
		if err := r.sleep(ctx); err != nil {
			return Chunk{}, err
		}
	}
}

// Trailer is what came behind the body, once Next has returned io.EOF.
func (r *Reader) Trailer() http.Header {
	if r.f == nil {
		return nil
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.trailer
}

// Close leaves the answer to the others. It may be called again.
func (r *Reader) Close() {
	f := r.f
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.unlock()
	if r.index != detached {
		f.detach(r, errReaderClosed)
		f.abandon()
	}
}

// advance takes note that the caller has dealt with what it was given.
func (r *Reader) advance() {
	if r.taken == 0 {
		return
	}
	r.done += int64(r.taken)
	r.taken = 0
	if f := r.f; r.index != detached && r.done > f.front {
		f.front = r.done
		f.makeRoom()
	}
}

// available moves on to the block that holds what is next, if there is anything.
func (r *Reader) available() bool {
	if r.block == nil {
		return false
	}
	for r.offset == len(r.block.data) {
		if r.block.next == nil {
			return false
		}
		r.block, r.offset = r.block.next, 0
	}
	return true
}

// sleep waits for a change. The fill's lock is held, but not meanwhile. Each
// reader has a bell of its own, which is used again and again: to close and
// replace a common channel would cost an allocation for every piece.
func (r *Reader) sleep(ctx context.Context) error {
	f := r.f
	if r.bell == nil {
		r.bell = make(chan struct{}, 1)
	}
	r.asleep = true
	f.asleep++
	f.mu.Unlock()
	select {
	case <-r.bell:
		f.mu.Lock()
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	if r.asleep {
		r.asleep = false
		f.asleep--
	} else {
		<-r.bell
	}
	return context.Cause(ctx)
}
