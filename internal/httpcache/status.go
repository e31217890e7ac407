package httpcache

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Forward says in Cache-Status why the cache did not answer (RFC 9211, 2.2).
type Forward string

const (
	ForwardBypass   Forward = "bypass"
	ForwardMethod   Forward = "method"
	ForwardURIMiss  Forward = "uri-miss"
	ForwardVaryMiss Forward = "vary-miss"
	ForwardMiss     Forward = "miss"
	ForwardRequest  Forward = "request"
	ForwardStale    Forward = "stale"
)

// Status is our member of Cache-Status. It holds no key: who sees it could ask
// what others have asked (RFC 9211, 6).
type Status struct {
	Hit       bool
	Forward   Forward // unless Hit
	Upstream  int     // status of the provider's answer, if it differs from the client's
	Stored    bool
	Collapsed bool
	HasTTL    bool
	TTL       time.Duration
	Detail    Reason
}

// Append appends the member's text.
func (s *Status) Append(dst []byte) []byte {
	dst = append(dst, "llm-proxy"...)
	switch {
	case s.Hit:
		dst = append(dst, "; hit"...)
	case s.Forward != "":
		dst = append(append(dst, "; fwd="...), s.Forward...)
		if s.Upstream != 0 {
			dst = strconv.AppendInt(append(dst, "; fwd-status="...), int64(s.Upstream), 10)
		}
		if s.Stored {
			dst = append(dst, "; stored"...)
		}
		if s.Collapsed {
			dst = append(dst, "; collapsed"...)
		}
	}
	if s.HasTTL {
		dst = strconv.AppendInt(append(dst, "; ttl="...), int64(s.TTL/time.Second), 10)
	}
	if s.Detail != ReasonNone {
		dst = append(append(dst, "; detail="...), s.Detail...)
	}
	return dst
}

func (s *Status) String() string { return string(s.Append(nil)) }

// Set adds our member to what caches nearer to the origin said.
func (s *Status) Set(header http.Header) {
	var room [128]byte
	header["Cache-Status"] = []string{string(s.AppendTo(room[:0], header["Cache-Status"]))}
}

// AppendTo appends the lines of Cache-Status as one, with our member at the end: the
// list is in the order of the answer's way (RFC 9211, 2).
func (s *Status) AppendTo(dst []byte, lines []string) []byte {
	for _, line := range lines {
		if line = strings.Trim(line, " \t,"); line != "" {
			dst = append(append(dst, line...), ", "...)
		}
	}
	return s.Append(dst)
}
