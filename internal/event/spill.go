package event

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// errSpillFull says that the spill has reached its bound.
var errSpillFull = errors.New("the spill has reached its size limit")

// spill keeps events on disk until the database takes them: one file that is being
// written, and older ones that wait to be drained. Each file is locked by the
// process that it belongs to; those of processes that are gone are adopted.
type spill struct {
	dir string
	max int64

	mu     sync.Mutex
	cur    *segment
	sealed []*segment // oldest first; the first one may be being drained
	bytes  int64      // of all
	events int64
	dirty  bool // cur has what was not synced
	made   int  // files, for their names
	closed bool
}

// append writes records of n events, and makes sure that they survive a power
// cut. It takes all of them or none.
func (s *spill) append(recs []byte, n int64) error {
	f, err := s.write(recs, n, false)
	if err != nil {
		return err
	}
	return syncFile(f)
}

// appendLater is append for callers that must not wait for the disk: sync comes
// after it.
func (s *spill) appendLater(recs []byte, n int64) error {
	_, err := s.write(recs, n, true)
	return err
}

// sync makes good for appendLater.
func (s *spill) sync() error {
	s.mu.Lock()
	dirty := s.dirty && s.cur != nil
	s.dirty = false
	var f *os.File
	if dirty {
		f = s.cur.f
	}
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	return syncFile(f)
}

// syncFile takes a file that is gone for synced: it is, once it is in the database.
func syncFile(f *os.File) error {
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("syncing the spill: %w", err)
	}
	return nil
}

func (s *spill) write(recs []byte, n int64, dirty bool) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errors.New("the spill is closed")
	case s.bytes+int64(len(recs)) > s.max:
		return nil, errSpillFull
	}
	if s.cur == nil {
		seg, err := s.create()
		if err != nil {
			return nil, fmt.Errorf("making a file for events: %w", err)
		}
		s.cur = seg
	}
	if _, err := s.cur.f.WriteAt(recs, s.cur.size); err != nil {
		if s.cur.f.Truncate(s.cur.size) != nil { // readers would stop at what is torn here
			s.seal()
		}
		return nil, fmt.Errorf("writing events to disk: %w", err)
	}
	s.cur.size += int64(len(recs))
	s.cur.events += n
	s.bytes += int64(len(recs))
	s.events += n
	s.dirty = s.dirty || dirty
	return s.cur.f, nil
}

// create needs mu. Somebody who adopts may get the lock of the new file first.
func (s *spill) create() (*segment, error) {
	for {
		s.made++
		path := filepath.Join(s.dir, fmt.Sprintf("%d-%d-%d%s", time.Now().UnixMicro(), os.Getpid(), s.made, segmentSuffix))
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		seg := &segment{f: f, path: path, size: int64(len(segmentMagic))}
		if locked, err := tryLock(f); err != nil || !locked || !seg.ours() {
			_ = f.Close()
			if err != nil {
				return nil, err
			}
			continue
		}
		if _, err = f.WriteAt([]byte(segmentMagic), 0); err == nil {
			err = syncDir(s.dir)
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(path), f.Close())
		}
		return seg, nil
	}
}

// seal needs mu.
func (s *spill) seal() {
	s.sealed = append(s.sealed, s.cur)
	s.cur, s.dirty = nil, false
}

// next returns the segment to drain, nil when there is none.
func (s *spill) next() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sealed) == 0 {
		if s.cur == nil || s.cur.events == 0 {
			return nil
		}
		s.seal()
	}
	return s.sealed[0]
}

// drained removes the segment that next returned.
func (s *spill) drained(seg *segment) error {
	s.mu.Lock()
	s.sealed = s.sealed[1:]
	s.bytes -= seg.size - int64(len(segmentMagic))
	s.events -= seg.events
	s.mu.Unlock()
	return errors.Join(os.Remove(seg.path), seg.f.Close())
}

// adopt takes over the files of processes that are gone.
func (s *spill) adopt() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("looking for events on disk: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		if filepath.Ext(path) != segmentSuffix {
			continue
		}
		if err := s.adoptFile(path); err != nil {
			errs = append(errs, fmt.Errorf("adopting %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

func (s *spill) adoptFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	seg := &segment{f: f, path: path}
	if locked, err := tryLock(f); err != nil || !locked || !seg.ours() { // it is used, by us perhaps, or gone
		return errors.Join(err, f.Close())
	}
	err = seg.measure()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), err == nil && seg.events == 0: // it died before it wrote anything
		return errors.Join(os.Remove(path), f.Close())
	case err != nil:
		return errors.Join(err, f.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = append(s.sealed, seg)
	s.bytes += seg.size - int64(len(segmentMagic))
	s.events += seg.events
	return nil
}

// pending is what waits to be drained.
func (s *spill) pending() (bytes, events int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, s.events
}

// close lets go of the files. Those with events stay, for whoever adopts them.
func (s *spill) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.cur != nil {
		s.seal()
	}
	var errs []error
	for _, seg := range s.sealed {
		if seg.events == 0 {
			errs = append(errs, os.Remove(seg.path))
		} else {
			errs = append(errs, seg.f.Sync())
		}
		errs = append(errs, seg.f.Close())
	}
	s.sealed = nil
	return errors.Join(errs...)
}
