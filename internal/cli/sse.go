package cli

import (
	"bufio"
	"bytes"
	"io"
	"iter"
)

// maxEvent bounds one line of a stream.
const maxEvent = 16 << 20

// events reads the data of server-sent events (HTML, 9.2.6). The error, with the
// last of them, says that the stream could not be read to its end.
func events(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxEvent)
		var data []byte
		begun := false
		for lines.Scan() {
			line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
			if len(line) == 0 {
				if begun && !yield(data, nil) {
					return
				}
				data, begun = nil, false
				continue
			}
			value, ok := bytes.CutPrefix(line, []byte("data:"))
			if !ok {
				continue // a comment, or a field that says nothing new
			}
			if begun {
				data = append(data, '\n')
			}
			data, begun = append(data, bytes.TrimPrefix(value, []byte(" "))...), true
		}
		if err := lines.Err(); err != nil {
			yield(nil, err)
			return
		}
		if begun { // some servers leave out the last blank line
			yield(data, nil)
		}
	}
}
