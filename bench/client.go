package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// client is one keep-alive HTTP/1.1 connection with a bounded buffer: just
// enough of the protocol to send prepared requests and check the answers. The
// provider uses it as well, to read requests.
type client struct {
	conn net.Conn
	buf  []byte
	r, w int // what is unread of buf

	received *atomic.Int64 // bytes of bodies; nil: nobody counts
	mark     string        // beginning of a header line to look for, in lower case; empty: none
}

const clientBuffer = 64 << 10

func newClient(conn net.Conn) *client { return &client{conn: conn, buf: make([]byte, clientBuffer)} }

// answer is what is checked of an answer.
type answer struct {
	status int
	length int           // of the body, chunks joined
	marked bool          // the client's mark was there
	first  time.Duration // from sending to the first byte of the body
	took   time.Duration // from sending to its last byte
}

var errLineTooLong = errors.New("a header line or chunk size does not fit the buffer")

// do sends a prepared request and reads the whole answer.
func (c *client) do(request []byte) (answer, error) {
	sent := time.Now()
	if _, err := c.conn.Write(request); err != nil {
		return answer{}, err
	}
	a, length, err := c.readHead()
	if err != nil {
		return a, err
	}
	if length == 0 {
		a.took = time.Since(sent)
		return a, nil
	}
	var size int
	if length < 0 {
		if size, err = c.readChunkSize(); err != nil {
			return a, err
		}
	}
	for c.r == c.w {
		if err := c.fill(); err != nil {
			return a, err
		}
	}
	a.first = time.Since(sent)
	if length > 0 {
		a.length = length
		err = c.discard(length)
	} else {
		a.length, err = c.discardChunks(size)
	}
	a.took = time.Since(sent)
	return a, err
}

// readHead reads a status line and headers. The length is that of the body,
// negative for chunks.
func (c *client) readHead() (a answer, length int, err error) {
	line, err := c.readLine()
	if err != nil {
		return a, 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return a, 0, fmt.Errorf("not an HTTP/1.1 answer: %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil || a.status < 200 {
		return a, 0, fmt.Errorf("unexpected status line %q", line)
	}
	known := false
	for {
		if line, err = c.readLine(); err != nil {
			return a, 0, err
		}
		if len(line) == 0 {
			break
		}
		if value, ok := headerValue(line, "content-length: "); ok {
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return a, 0, fmt.Errorf("unexpected header %q", line)
			}
			known = true
		} else if _, ok := headerValue(line, "transfer-encoding: chunked"); ok {
			length, known = -1, true
		} else if c.mark != "" && !a.marked {
			_, a.marked = headerValue(line, c.mark)
		}
	}
	if !known {
		return a, 0, errors.New("an answer without length keeps no connection alive")
	}
	return a, length, nil
}

func headerValue(line []byte, prefix string) ([]byte, bool) {
	if len(line) < len(prefix) || line[0]|0x20 != prefix[0] || !bytes.EqualFold(line[:len(prefix)], []byte(prefix)) {
		return nil, false
	}
	return line[len(prefix):], true
}

// readRequest reads a request with a Content-Length that fits the buffer whole;
// both parts are valid until the next call.
func (c *client) readRequest() (head, body []byte, err error) {
	end := -1
	for end < 0 {
		if end = bytes.Index(c.buf[c.r:c.w], []byte("\r\n\r\n")); end < 0 {
			if err := c.fill(); err != nil {
				return nil, nil, err
			}
		}
	}
	end += len("\r\n\r\n")
	length := 0
	for rest := c.buf[c.r : c.r+end]; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\r\n"))
		if value, ok := headerValue(line, "content-length: "); ok {
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > clientBuffer/2 {
				return nil, nil, fmt.Errorf("unexpected header %q", line)
			}
		}
		rest = after
	}
	for c.w-c.r < end+length {
		if err := c.fill(); err != nil {
			return nil, nil, err
		}
	}
	head, body = c.buf[c.r:c.r+end], c.buf[c.r+end:c.r+end+length]
	c.r += end + length
	return head, body, nil
}

// readChunkSize reads the line before a chunk.
func (c *client) readChunkSize() (int, error) {
	line, err := c.readLine()
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseUint(string(line), 16, 31)
	if err != nil {
		return 0, fmt.Errorf("unexpected chunk size %q", line)
	}
	return int(size), nil
}

// discardChunks reads a chunked body whose first chunk size has been read.
func (c *client) discardChunks(size int) (total int, err error) {
	for size > 0 {
		total += size
		if err := c.discard(size); err != nil {
			return total, err
		}
		if line, err := c.readLine(); err != nil || len(line) > 0 {
			return total, errors.Join(errors.New("a chunk is longer than it said"), err)
		}
		if size, err = c.readChunkSize(); err != nil {
			return total, err
		}
	}
	line, err := c.readLine()
	if err == nil && len(line) > 0 {
		err = fmt.Errorf("unexpected trailer %q", line)
	}
	return total, err
}

func (c *client) discard(n int) error {
	for {
		k := min(n, c.w-c.r)
		c.r += k
		n -= k
		if c.received != nil && k > 0 {
			c.received.Add(int64(k))
		}
		if n == 0 {
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// readLine returns the next line without its end, valid until the next call.
func (c *client) readLine() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i >= 0 {
			line := c.buf[c.r : c.r+i]
			c.r += i + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more into the buffer.
func (c *client) fill() error {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		return errLineTooLong
	}
	n, err := c.conn.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
