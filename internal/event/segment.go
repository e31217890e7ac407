package event

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A segment is a file of events: eight bytes that name the format, then records of
// length, checksum (CRC-32C of the payload) and payload, which is an event's JSON.
const (
	segmentMagic  = "llmspl1\n"
	segmentSuffix = ".spill"
	recordHead    = 8
	maxRecord     = 256 << 20 // more than any event; a longer one is damage
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is a file that this process has the lock of.
type segment struct {
	f      *os.File
	path   string
	size   int64 // of what is whole
	events int64
}

// appendRecord appends an event as a segment holds it.
func appendRecord(b []byte, e *Event) []byte {
	at := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = e.AppendJSON(b)
	payload := b[at+recordHead:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(payload, castagnoli))
	return b
}

var (
	errTorn    = errors.New("the rest of the file is torn or damaged")
	errForeign = errors.New("not a file of events of this version")
)

// records reads the payloads of a segment one by one.
type records struct {
	r   *bufio.Reader
	buf []byte
}

func newRecords(r io.Reader) (*records, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(segmentMagic))
	if _, err := io.ReadFull(br, magic); err != nil {
		return nil, err
	}
	if string(magic) != segmentMagic {
		return nil, errForeign
	}
	return &records{r: br}, nil
}

// next returns a payload, valid until the call after; [io.EOF] at the end, and
// errTorn where only a part of a record is left, as a crash leaves it.
func (r *records) next() ([]byte, error) {
	head := make([]byte, recordHead)
	if _, err := io.ReadFull(r.r, head); err != nil {
		return nil, torn(err)
	}
	n := binary.LittleEndian.Uint32(head)
	if n == 0 || n > maxRecord {
		return nil, errTorn
	}
	// A damaged length must not make us allocate what the file does not hold.
	r.buf = r.buf[:0]
	for left := int(n); left > 0; {
		part := min(left, 1<<20)
		at := len(r.buf)
		r.buf = append(r.buf, make([]byte, part)...)
		if _, err := io.ReadFull(r.r, r.buf[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, torn(err)
		}
		left -= part
	}
	if crc32.Checksum(r.buf, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return r.buf, nil
}

func torn(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

// measure finds out what of an adopted segment is whole.
func (s *segment) measure() error {
	r, err := newRecords(s.reader())
	if err != nil {
		return err
	}
	s.size = int64(len(segmentMagic))
	for {
		payload, err := r.next()
		switch {
		case err == io.EOF || errors.Is(err, errTorn):
			return nil
		case err != nil:
			return fmt.Errorf("reading %s: %w", s.path, err)
		}
		s.size += int64(recordHead + len(payload))
		s.events++
	}
}

// reader reads the whole file, from its beginning.
func (s *segment) reader() io.Reader { return io.NewSectionReader(s.f, 0, 1<<62) }

// ours reports whether the path still names the locked file.
func (s *segment) ours() bool {
	held, err := s.f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(s.path)
	return err == nil && os.SameFile(held, named)
}
