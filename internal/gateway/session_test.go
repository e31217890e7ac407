package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// frame writes a WebSocket frame as a server does.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

const (
	frameText, frameBinary, frameClose, framePing, frameMore = 0x81, 0x82, 0x88, 0x89, 0x00
	firstOfText, lastOfMore                                  = 0x01, 0x80
)

func done(in, out string) string {
	return `{"type":"response.done","response":{"status":"completed","usage":{"input_tokens":` + in + `,"output_tokens":` + out + `}}}`
}

// pipe is a connection whose provider says bytes in pieces of a size.
type pipe struct {
	io.Reader
	size int
}

func (p pipe) Read(b []byte) (int, error)  { return p.Reader.Read(b[:min(len(b), p.size)]) }
func (p pipe) Write(b []byte) (int, error) { return len(b), nil }
func (p pipe) Close() error                { return nil }

func TestSession(t *testing.T) {
	filler := strings.Repeat("x", 70_000)
	var said []byte
	for _, f := range [][]byte{
		frame(frameText, `{"type":"session.created"}`),
		frame(frameText, done("10", "3")),
		frame(framePing, done("1000", "1000")), // whatever a ping holds, it bills nothing
		frame(firstOfText, done("200", "7")[:20]), frame(framePing, ""), frame(frameMore, done("200", "7")[20:30]), frame(lastOfMore, done("200", "7")[30:]),
		frame(frameBinary, done("5000", "5000")),
		frame(frameText, ""),
		frame(frameText, `{"type":"response.output_audio.delta","delta":"`+filler+`"}`),
		frame(frameText, `{"type":"x","usage":"`+strings.Repeat("y", maxMessage)+`"}`), // too long to be looked at
		frame(frameText, strings.Replace(done("4000", "1"), `{"type"`, `{"filler":"`+filler+`","type"`, 1)),
		frame(frameClose, "\x03\xe8"),
	} {
		said = append(said, f...)
	}
	for _, size := range []int{1, 2, 3, 7, 126, 4096, len(said)} {
		s := newSession(pipe{bytes.NewReader(said), size})
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, said) {
			t.Fatalf("pieces of %d: %v, other bytes: %t", size, err, !bytes.Equal(got, said))
		}
		counts := s.end()
		in, _ := counts.InputTokens()
		out, _ := counts.OutputTokens()
		if in != 4210 || out != 11 || counts.Source != usage.SourceProvider {
			t.Errorf("pieces of %d: %d in, %d out, %v", size, in, out, counts.Source)
		}
	}
}

// What comes when the request is over counts nowhere.
func TestSessionIsOver(t *testing.T) {
	s := newSession(pipe{bytes.NewReader(frame(frameText, done("1", "1"))), 1000})
	s.end()
	if _, err := io.ReadAll(s); err != nil {
		t.Fatal(err)
	}
	if counts := s.end(); !counts.Empty() {
		t.Errorf("%+v", counts)
	}
}

func FuzzSession(f *testing.F) {
	f.Add(frame(frameText, done("1", "2")), 3)
	f.Add([]byte{0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255, 1}, 1)
	f.Add([]byte{0x01, 0, 0x80, 0xfe, 1, 2, 3, 4, 5}, 2)
	f.Fuzz(func(t *testing.T, said []byte, size int) {
		whole, pieces := newSession(pipe{bytes.NewReader(said), len(said) + 1}), newSession(pipe{bytes.NewReader(said), 1 + max(0, size)%64})
		for _, s := range []*session{whole, pieces} {
			if got, err := io.ReadAll(s); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, said) {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if a, b := whole.end(), pieces.end(); a != b {
			t.Errorf("%+v at once, %+v in pieces", a, b)
		}
	})
}
