package respcache

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// In Redis all that is kept under a primary key is one hash: a field for each
// variant, and the index, with a line for each of them, the last that was put first:
//
//	<field> <until, Unix ms> <label, base64> <what it varies on, with commas>
//
// A label is what purges go by, sealed: a lookup does not need it and a purge needs
// nothing else.
const indexField = "i"

// line is one of the index.
type line struct {
	field string
	until int64 // Unix ms
	label string
	vary  []string
}

// label is what a purge needs to know.
type label struct {
	tags  Tags
	key   Key
	there uint64
}

const maxLine = 64 << 10

// index is read in pieces: what is damaged is as if it were not there.
func parseIndex(text string) (lines []line) {
	for l := range strings.SplitSeq(text, "\n") {
		if len(lines) == maxVariants {
			break
		}
		parsed, ok := parseLine(l)
		if ok {
			lines = append(lines, parsed)
		}
	}
	return lines
}

func parseLine(text string) (l line, ok bool) {
	if len(text) > maxLine {
		return l, false
	}
	fields := strings.SplitN(text, " ", 4)
	if len(fields) != 4 || len(fields[0]) != 2*nameSize {
		return l, false
	}
	until, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return l, false
	}
	l = line{field: fields[0], until: until, label: fields[2]}
	if _, err := hex.DecodeString(l.field); err != nil {
		return l, false
	}
	if fields[3] != "" {
		names, star := httpcache.ParseVary(fields[3:])
		if star || len(names) > maxVaryNames {
			return l, false
		}
		l.vary = names
	}
	return l, true
}

func (l line) String() string {
	return l.field + " " + strconv.FormatInt(l.until, 10) + " " + l.label + " " + strings.Join(l.vary, ",")
}

// ofUse reports whether the line's entry is of use.
func (l line) ofUse(now time.Time) bool { return l.until > now.UnixMilli() }

func sealLabel(s Sealer, name, field string, e *Entry) string {
	plain := binary.AppendUvarint(nil, e.there)
	plain = append(plain, e.Primary[:]...)
	plain = encodeTags(plain, &e.Tags)
	return base64.RawStdEncoding.EncodeToString(s.Seal(labelPlace(name, field), plain))
}

func openLabel(s Sealer, name string, l line) (b label, ok bool) {
	envelope, err := base64.RawStdEncoding.DecodeString(l.label)
	if err != nil {
		return b, false
	}
	plain, err := s.Open(labelPlace(name, l.field), envelope)
	if err != nil {
		return b, false
	}
	r := reader{src: plain}
	b.there = r.uint()
	if len(r.src) < len(b.key) {
		return b, false
	}
	copy(b.key[:], r.src)
	r.src = r.src[len(b.key):]
	r.tags(&b.tags)
	return b, !r.failed && len(r.src) == 0
}
