package respcache

import (
	"encoding/binary"
	"net/http"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// reader reads what was appended. When something is missing, it has failed, and
// whatever it reads is zero.
type reader struct {
	src    []byte
	failed bool
}

func (r *reader) fail() { r.src, r.failed = nil, true }

func (r *reader) byte() byte {
	if len(r.src) == 0 {
		r.fail()
		return 0
	}
	b := r.src[0]
	r.src = r.src[1:]
	return b
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.src)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.src = r.src[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.src)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.src = r.src[n:]
	return v
}

// count is a number of things that take at least so many bytes each.
func (r *reader) count(each int) int {
	n := r.uint()
	if n > uint64(len(r.src)/each) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) view() []byte {
	n := r.count(1)
	b := r.src[:n]
	r.src = r.src[n:]
	return b
}

func (r *reader) text() string { return string(r.view()) }

// bytes is a copy: an entry must not keep alive what it was read from.
func (r *reader) bytes() []byte {
	if b := r.view(); len(b) > 0 {
		return append(make([]byte, 0, len(b)), b...)
	}
	return nil
}

func (r *reader) texts() []string {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	texts := make([]string, n)
	for i := range texts {
		texts[i] = r.text()
	}
	return texts
}

func (r *reader) time() time.Time {
	ns := r.int()
	if ns == noTime || r.failed {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func (r *reader) tags(t *Tags) {
	for _, s := range [...]*string{&t.Provider, &t.Project, &t.Model, &t.Method, &t.Path, &t.Query} {
		*s = r.text()
	}
}

func (r *reader) meta(m *httpcache.Meta) {
	m.Status = int(r.int())
	if n := r.count(2); n > 0 {
		m.Header = make(http.Header, n)
		for range n {
			name := r.text()
			m.Header[name] = r.texts()
		}
	}
	m.Vary = r.texts()
	m.Method = r.text()
	m.Date, m.ResponseTime = r.time(), r.time()
	for _, d := range [...]*time.Duration{&m.InitialAge, &m.Lifetime, &m.IfError, &m.WhileRefresh} {
		*d = time.Duration(r.int())
	}
	flags := r.byte()
	m.AlwaysConfirm, m.NeverStale = flags&flagAlwaysConfirm != 0, flags&flagNeverStale != 0
}
