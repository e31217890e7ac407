package gateway

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// maxMessage bounds a message of a session that is looked at; audio comes in
// smaller ones.
const maxMessage = 4 << 20

// session meters an upgraded connection: it reads the provider's side as it
// passes, WebSocket frame by frame (RFC 6455, 5.2). Frames of servers are not
// masked, and not compressed, since no extension was negotiated.
type session struct {
	io.ReadWriteCloser

	mu     sync.Mutex // the host's proxy may still read when the request is over
	over   bool
	reader usage.Reader
	counts usage.Counts

	header  []byte // of the frame, as far as it has come
	left    uint64 // of the frame's payload
	final   bool   // the frame is its message's last
	keep    bool   // the frame is part of a text message
	text    bool   // the message is text
	message []byte
	lost    bool // the message is too long to be looked at
}

func newSession(conn io.ReadWriteCloser) *session { return &session{ReadWriteCloser: conn} }

// Read implements [io.Reader].
func (s *session) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.take(p[:n])
	}
	return n, err
}

// end returns what the session has used.
func (s *session) end() usage.Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.message = true, nil
	return s.counts
}

func (s *session) take(p []byte) {
	for len(p) > 0 {
		if s.left == 0 {
			if p = s.takeHeader(p); s.left == 0 {
				continue
			}
		}
		n := min(uint64(len(p)), s.left)
		if s.keep && !s.lost {
			if s.lost = uint64(len(s.message))+n > maxMessage; !s.lost {
				s.message = append(s.message, p[:n]...)
			}
		}
		p = p[n:]
		if s.left -= n; s.left == 0 {
			s.endFrame()
		}
	}
}

// takeHeader reads a frame's header and returns what follows it.
func (s *session) takeHeader(p []byte) []byte {
	for len(p) > 0 {
		s.header, p = append(s.header, p[0]), p[1:]
		size := headerSize(s.header)
		if len(s.header) < size {
			continue
		}
		s.beginFrame(size)
		return p
	}
	return nil
}

// headerSize is how long a header is that begins so.
func headerSize(h []byte) int {
	if len(h) < 2 {
		return 2
	}
	size := 2
	switch h[1] & 0x7f {
	case 126:
		size = 4
	case 127:
		size = 10
	}
	if h[1]&0x80 != 0 {
		size += 4 // a mask: not a server's, but we are not the one to complain
	}
	return size
}

func (s *session) beginFrame(size int) {
	h := s.header
	switch h[1] & 0x7f {
	case 126:
		s.left = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		s.left = binary.BigEndian.Uint64(h[2:])
	default:
		s.left = uint64(h[1] & 0x7f)
	}
	s.header = h[:0]
	s.final = h[0]&0x80 != 0
	switch opcode := h[0] & 0x0f; {
	case opcode >= 8: // control frames come between a message's
		s.keep, s.final = false, false
	case opcode != 0:
		s.text = opcode == 1 && h[0]&0x70 == 0 && h[1]&0x80 == 0
		s.message, s.lost = s.message[:0], false
		s.keep = s.text
	default:
		s.keep = s.text
	}
	if s.left == 0 {
		s.endFrame()
	}
}

func (s *session) endFrame() {
	if !s.final || !s.keep {
		return
	}
	if !s.lost {
		if c, ok := s.reader.Message(s.message); ok {
			s.counts.Add(&c)
		}
	}
	s.message, s.keep = s.message[:0], false
	if cap(s.message) > 64<<10 {
		s.message = nil
	}
}
