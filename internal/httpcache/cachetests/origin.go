package cachetests

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Origin answers what the tests say, and remembers what it saw. It serves all
// tests of a run at once, on any path that ends in /test/<id>, and is safe for
// concurrent use.
type Origin struct {
	now func() time.Time

	mu   sync.Mutex
	runs map[string]*run
}

type run struct {
	steps []Step
	seen  []seen
}

// seen is one request as the origin saw it, and what it answered.
type seen struct {
	number int // of the client's request, 0 if that did not come through
	method string
	header http.Header
	sent   []Field // response fields that the client must have got
}

// NewOrigin makes an origin whose clock is now.
func NewOrigin(now func() time.Time) *Origin { return &Origin{now: now, runs: map[string]*run{}} }

func (o *Origin) begin(t *Test) (id string) {
	id = rand.Text()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs[id] = &run{steps: t.Steps}
	return id
}

func (o *Origin) end(id string) []seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.runs[id]
	delete(o.runs, id)
	return r.seen
}

// Reply is what the origin answers.
type Reply struct {
	Status     int
	Phrase     string
	Header     http.Header
	Body       string
	Disconnect bool // it does not answer, and hangs up
}

// Answer answers one request. target is path and query.
func (o *Origin) Answer(method, target string, header http.Header) Reply {
	o.mu.Lock()
	defer o.mu.Unlock()
	path, _, _ := strings.Cut(target, "?")
	_, rest, _ := strings.Cut(path, "/test/")
	id, _, _ := strings.Cut(rest, "/")
	r := o.runs[id]
	if r == nil {
		return plain(http.StatusConflict, "no test is running at "+path)
	}
	count := len(r.seen) + 1
	number, _ := strconv.Atoi(header.Get("Req-Num"))
	at := number
	if at == 0 {
		at = count
	}
	if at > len(r.steps) {
		return plain(http.StatusConflict, fmt.Sprintf("request %d is not part of the test", at))
	}
	s := &r.steps[at-1]
	reply := Reply{Status: http.StatusOK, Phrase: "OK", Disconnect: s.Disconnect}
	if s.Status != nil {
		reply.Status, reply.Phrase = s.Status.Code, s.Status.Phrase
	}
	if s.validated() {
		reply.Status, reply.Phrase = 999, "304 Not Generated"
		if at > 1 && confirms(r.steps[at-2].ResponseHeader, header, o.now) {
			reply.Status, reply.Phrase = http.StatusNotModified, "Not Modified"
		}
	}
	now := o.now()
	h := http.Header{
		"Server-Base-Url": {target}, "Server-Request-Count": {strconv.Itoa(count)}, "Client-Request-Count": {strconv.Itoa(number)},
		"Server-Now": {now.UTC().Format(time.RFC3339Nano)},
	}
	seen := seen{number: number, method: method, header: header.Clone()}
	for _, f := range s.ResponseHeader {
		f.Value, f.Delta = s.value(&f, now, target), nil
		name := http.CanonicalHeaderKey(f.Name)
		h[name] = append(h[name], f.Value)
		if !f.Unsaved {
			seen.sent = slices.DeleteFunc(seen.sent, func(earlier Field) bool { return earlier.Name == name })
			seen.sent = append(seen.sent, Field{Name: name, Value: strings.Join(h[name], ", ")})
		}
	}
	if h["Content-Type"] == nil {
		h["Content-Type"] = []string{"text/plain"}
	}
	if h["Date"] == nil {
		h["Date"] = []string{date(now, false)}
	}
	r.seen = append(r.seen, seen)
	var numbers []string
	for _, s := range r.seen {
		numbers = append(numbers, strconv.Itoa(s.number))
	}
	h["Request-Numbers"] = []string{strings.Join(numbers, " ")}
	reply.Header = h
	if !bodiless(reply.Status) {
		reply.Body = id
		if s.ResponseBody != nil && *s.ResponseBody != "" {
			reply.Body = *s.ResponseBody
		}
	}
	return reply
}

func plain(status int, text string) Reply {
	return Reply{Status: status, Phrase: http.StatusText(status), Header: http.Header{"Content-Type": {"text/plain"}}, Body: text}
}

// confirms reports whether the request asks about the previous answer. Dates of
// that are told by what the cache sends: a number is a date that only it knows.
func confirms(previous []Field, header http.Header, now func() time.Time) bool {
	for _, f := range previous {
		switch strings.ToLower(f.Name) {
		case "last-modified":
			got := header.Get("If-Modified-Since")
			if f.Delta == nil && got == f.Value || f.Delta != nil && near(got, now().Add(time.Duration(*f.Delta)*time.Second)) {
				return true
			}
		case "etag":
			if header.Get("If-None-Match") == f.Value {
				return true
			}
		}
	}
	return false
}

// near reports whether a date is at most a minute before t: the pauses of a test are shorter.
func near(s string, t time.Time) bool {
	at, err := http.ParseTime(s)
	return err == nil && !at.After(t) && at.After(t.Add(-time.Minute))
}

// value is a field's text, with dates and locations filled in.
func (s *Step) value(f *Field, now time.Time, base string) string {
	name := strings.ToLower(f.Name)
	switch {
	case f.Delta != nil && slices.Contains(dateFields, name):
		return date(now.Add(time.Duration(*f.Delta)*time.Second), slices.Contains(s.RFC850, name))
	case f.Delta != nil:
		return strconv.FormatInt(*f.Delta, 10)
	case s.MagicLocations && (name == "location" || name == "content-location"):
		if f.Value == "" {
			return base
		}
		return base + "/" + f.Value
	}
	return f.Value
}

var dateFields = []string{"date", "expires", "last-modified", "if-modified-since", "if-unmodified-since"}

func date(t time.Time, rfc850 bool) string {
	if rfc850 {
		return t.UTC().Format("Monday, 02-Jan-06 15:04:05 GMT")
	}
	return t.UTC().Format(http.TimeFormat)
}
