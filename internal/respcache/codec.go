package respcache

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// The form of an entry in Redis, before it is compressed and sealed: a version, then
// each field in the order of encodeEntry. Numbers are varints, texts have their
// length before them.
const entryVersion = 1

const (
	flagAlwaysConfirm = 1 << iota
	flagNeverStale
)

// noTime is the zero time.
const noTime = math.MinInt64

var errEntry = errors.New("not an entry, or one of another version")

// encodeEntry appends an entry, but for its keys, which are where it is.
func encodeEntry(dst []byte, e *Entry) []byte {
	dst = append(dst, entryVersion)
	dst = encodeTags(dst, &e.Tags)
	dst = binary.AppendUvarint(dst, e.there)
	dst = encodeMeta(dst, &e.Meta)
	dst = binary.AppendUvarint(dst, uint64(len(e.Marks)))
	for _, m := range e.Marks {
		dst = binary.AppendVarint(dst, m.End)
		dst = binary.AppendVarint(dst, int64(m.At))
	}
	dst = appendPart(dst, e.Usage.Model)
	dst = appendPart(dst, e.Usage.ServiceTier)
	for _, n := range [...]int64{e.Usage.Input, e.Usage.Cached, e.Usage.CacheWrite, e.Usage.Output, e.Usage.Reasoning} {
		dst = binary.AppendVarint(dst, n)
	}
	dst = appendTime(dst, e.Until)
	dst = binary.AppendUvarint(dst, uint64(len(e.Body)))
	return append(dst, e.Body...)
}

func encodeMeta(dst []byte, m *httpcache.Meta) []byte {
	dst = binary.AppendVarint(dst, int64(m.Status))
	dst = binary.AppendUvarint(dst, uint64(len(m.Header)))
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		dst = appendPart(dst, name)
		dst = appendParts(dst, m.Header[name])
	}
	dst = appendParts(dst, m.Vary)
	dst = appendPart(dst, m.Method)
	dst = appendTime(dst, m.Date)
	dst = appendTime(dst, m.ResponseTime)
	for _, d := range [...]time.Duration{m.InitialAge, m.Lifetime, m.IfError, m.WhileRefresh} {
		dst = binary.AppendVarint(dst, int64(d))
	}
	var flags byte
	if m.AlwaysConfirm {
		flags |= flagAlwaysConfirm
	}
	if m.NeverStale {
		flags |= flagNeverStale
	}
	return append(dst, flags)
}

func encodeTags(dst []byte, t *Tags) []byte {
	for _, s := range [...]string{t.Provider, t.Project, t.Model, t.Method, t.Path, t.Query} {
		dst = appendPart(dst, s)
	}
	return dst
}

func appendParts(dst []byte, parts []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(parts)))
	for _, p := range parts {
		dst = appendPart(dst, p)
	}
	return dst
}

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(dst, noTime)
	}
	return binary.AppendVarint(dst, t.UnixNano())
}

// decodeEntry reads what encodeEntry wrote, and nothing else. What it makes is not
// much larger than what it reads, whatever that says.
func decodeEntry(src []byte) (*Entry, error) {
	r := reader{src: src}
	if r.byte() != entryVersion {
		return nil, errEntry
	}
	e := new(Entry)
	r.tags(&e.Tags)
	e.there = r.uint()
	r.meta(&e.Meta)
	if n := r.count(2); n > 0 {
		e.Marks = make([]Mark, n)
		for i := range e.Marks {
			e.Marks[i] = Mark{End: r.int(), At: time.Duration(r.int())}
		}
	}
	e.Usage.Model, e.Usage.ServiceTier = r.text(), r.text()
	for _, n := range [...]*int64{&e.Usage.Input, &e.Usage.Cached, &e.Usage.CacheWrite, &e.Usage.Output, &e.Usage.Reasoning} {
		*n = r.int()
	}
	e.Until = r.time()
	e.Body = r.bytes()
	if r.failed || len(r.src) > 0 {
		return nil, errEntry
	}
	return e, nil
}
