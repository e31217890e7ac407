package httpcache

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Meta is a stored response less its body: a value of plain fields, for a store
// to serialise. Nothing in it is changed after Consider or Freshen made it.
type Meta struct {
	Status int
	Header http.Header // the fields that may be stored; canonical names
	Vary   []string    // canonical, sorted; nil: the response has one variant

	Method        string // of the request: GET or POST
	Date          time.Time
	ResponseTime  time.Time
	InitialAge    time.Duration // corrected_initial_age of RFC 9111, 4.2.3
	Lifetime      time.Duration // freshness lifetime, from Date
	IfError       time.Duration // for how long it may be used stale when the origin fails
	WhileRefresh  time.Duration // the same, while it is revalidated
	AlwaysConfirm bool          // no-cache: not used without revalidation
	NeverStale    bool          // must-revalidate, proxy-revalidate, s-maxage, no-cache
}

// Age is current_age (RFC 9111, 4.2.3). A clock that was set back makes nothing younger.
func (m *Meta) Age(now time.Time) time.Duration {
	return m.InitialAge + max(0, now.Sub(m.ResponseTime))
}

// TTL is for how long the response is still fresh; negative: for how long it is stale.
func (m *Meta) TTL(now time.Time) time.Duration { return m.Lifetime - m.Age(now) }

// ETag is the stored entity tag as the origin wrote it, or nothing.
func (m *Meta) ETag() string {
	if v := m.Header["Etag"]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// Validated reports whether the response can be revalidated. A POST has no
// conditional form.
func (m *Meta) Validated() bool {
	return m.Method == http.MethodGet && (m.ETag() != "" || len(m.Header["Last-Modified"]) == 1)
}

// CopyHeader writes what a client gets with the stored response, Age included.
func (m *Meta) CopyHeader(dst http.Header, now time.Time) {
	m.CopyStored(dst)
	m.setAge(dst, now)
}

// CopyStored is CopyHeader without Age, for who writes that together with others. The
// values are a copy, too: who handles the answer after us may change them in place.
func (m *Meta) CopyStored(dst http.Header) {
	n := 0
	for _, values := range m.Header {
		n += len(values)
	}
	all := make([]string, 0, n)
	for name, values := range m.Header {
		from := len(all)
		all = append(all, values...)
		dst[name] = all[from:len(all):len(all)]
	}
}

// notModifiedFields are those of a 304 (RFC 9110, 15.4.5), and Last-Modified for
// who has nothing else to compare with.
var notModifiedFields = [...]string{"Cache-Control", "Content-Location", "Date", "Etag", "Expires", "Last-Modified", "Vary"}

// CopyNotModified writes the header of the 304 that stands for the stored response.
func (m *Meta) CopyNotModified(dst http.Header, now time.Time) {
	for _, name := range notModifiedFields {
		if values, ok := m.Header[name]; ok {
			dst[name] = slices.Clone(values)
		}
	}
	m.setAge(dst, now)
}

func (m *Meta) setAge(dst http.Header, now time.Time) {
	dst["Age"] = []string{string(m.AppendAge(nil, now))}
}

// AppendAge appends the value of Age, in seconds.
func (m *Meta) AppendAge(dst []byte, now time.Time) []byte {
	return strconv.AppendInt(dst, int64(min(m.Age(now)/time.Second, maxDelta)), 10)
}
