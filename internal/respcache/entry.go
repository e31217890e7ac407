package respcache

import (
	"errors"
	"time"
	"unsafe"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// Mark is the end of a piece of a streamed answer as it came.
type Mark struct {
	End int64         // bytes of the body up to here
	At  time.Duration // since the first byte
}

// Usage is what the original answer used, for the record of those that are served
// from the cache.
type Usage struct {
	Model       string
	ServiceTier string
	Input       int64
	Cached      int64
	CacheWrite  int64
	Output      int64
	Reasoning   int64
}

// Tags are what purges go by.
type Tags struct {
	Provider string
	Project  string // whose request was answered, whoever it is shared with
	Model    string
	Method   string
	Path     string
	Query    string
}

// Entry is a response that is kept. Nothing in it is changed any more once it was
// put or found; it is shared by all who read it.
type Entry struct {
	Primary Key
	Variant Key // see VariantKey
	Tags    Tags

	Meta  httpcache.Meta
	Body  []byte
	Marks []Mark // of a stream
	Usage Usage

	Until time.Time // of use until then, if only stale; see UsefulUntil

	there uint64 // the last purge in Redis that the request for it came after
}

// UsefulUntil is when a response is neither fresh any more nor may be used stale.
// One that can be revalidated is of use for at least so long after it came.
func UsefulUntil(m *httpcache.Meta, revalidate time.Duration) time.Time {
	useful := m.Lifetime - m.InitialAge + max(m.IfError, m.WhileRefresh)
	if m.Validated() {
		useful = max(useful, revalidate)
	}
	return m.ResponseTime.Add(useful)
}

// Renewed is the entry with what a 304 has made of it. The body is shared.
func (e *Entry) Renewed(meta httpcache.Meta, until time.Time) *Entry {
	n := *e
	n.Meta, n.Until = meta, until
	return &n
}

var errVary = errors.New("varies on too many fields")

func (e *Entry) check() error {
	if len(e.Meta.Vary) > maxVaryNames {
		return errVary
	}
	return nil
}

// What an entry takes besides itself, measured: a place in the cache's table and
// queues, in its group, and in the index for purges.
const (
	entryOverhead  = 640
	headerOverhead = 56 // name, slice of values and their part of the map
	valueOverhead  = 16
	mapOverhead    = 96
	stringSize     = 16
)

// Size is the memory that the entry takes, in bytes.
func (e *Entry) Size() int64 {
	n := int64(unsafe.Sizeof(*e)) + entryOverhead + mapOverhead
	n += int64(cap(e.Body)) + int64(cap(e.Marks))*int64(unsafe.Sizeof(Mark{}))
	for name, values := range e.Meta.Header {
		n += headerOverhead + int64(len(name))
		for _, v := range values {
			n += valueOverhead + int64(len(v))
		}
	}
	for _, v := range e.Meta.Vary {
		n += stringSize + int64(len(v))
	}
	for _, s := range [...]string{
		e.Tags.Provider, e.Tags.Project, e.Tags.Model, e.Tags.Method, e.Tags.Path, e.Tags.Query, e.Usage.Model, e.Usage.ServiceTier,
	} {
		n += int64(len(s))
	}
	return n
}
