package cachetests

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// ServeHTTP answers over HTTP/1.1, byte for byte: a server of Go's would take
// fields away that tests are about, such as the length in a 304. Each answer
// ends its connection.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20)) // else closing would reset the connection
	reply := o.Answer(r.Method, r.URL.RequestURI(), r.Header)
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "the tests' origin needs HTTP/1.1: "+err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	if !reply.Disconnect {
		_ = reply.write(buf.Writer, r.Method) // whoever does not read it says so itself
	}
}

func (a *Reply) write(w *bufio.Writer, method string) error {
	body := a.Body
	fmt.Fprintf(w, "HTTP/1.1 %03d %s\r\n", a.Status, a.Phrase)
	for name, values := range a.Header {
		for _, v := range values {
			fmt.Fprintf(w, "%s: %s\r\n", name, v)
		}
	}
	if length := a.Header["Content-Length"]; length == nil && !bodiless(a.Status) {
		fmt.Fprintf(w, "Content-Length: %d\r\n", len(body))
	} else if n, err := strconv.Atoi(strings.Join(length, "")); err == nil {
		body = cut(body, n)
	}
	if a.Header["Connection"] == nil {
		fmt.Fprint(w, "Connection: close\r\n")
	}
	fmt.Fprint(w, "\r\n")
	if method != http.MethodHead && !bodiless(a.Status) {
		fmt.Fprint(w, body)
	}
	return w.Flush()
}

// cut makes a body as long as a test says that it is.
func cut(body string, n int) string {
	if n <= len(body) {
		return body[:n]
	}
	return body + strings.Repeat("x", n-len(body))
}
