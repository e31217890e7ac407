package httpcache

import (
	"net/http"
	"time"
)

// Request is what caching needs to know of a request, read once.
type Request struct {
	Method string
	Header http.Header // the client's; not changed

	control      requestControl
	ranged       bool // asks for a part
	precondition bool // has a condition that only the origin can judge
	conditional  bool // asks whether what the client has is still good
}

// NewRequest reads a client's header, whose names are canonical, as net/http makes
// them. What is sent upstream would not do: it lacks Pragma.
func NewRequest(method string, header http.Header) Request {
	r := Request{Method: method, Header: header, control: parseRequestControl(header["Cache-Control"], header["Pragma"])}
	get := method == http.MethodGet || method == http.MethodHead
	r.ranged = method == http.MethodGet && header["Range"] != nil // RFC 9110, 14.2: of no meaning elsewhere
	r.conditional = header["If-None-Match"] != nil || header["If-Modified-Since"] != nil
	r.precondition = header["If-Match"] != nil || header["If-Unmodified-Since"] != nil || r.conditional && !get
	return r
}

// Asked reports whether the client of a POST asks for a stored response.
func (r *Request) Asked() bool {
	_, ok := r.control.asked()
	return ok
}

// access says whether a request may be answered from the cache and whether its
// response may go there; if neither, why, and how Cache-Status calls it.
type access struct {
	read, store bool
	forward     Forward
	reason      Reason
}

func (r *Request) access(rules *Rules) access {
	a := access{read: true, store: true}
	switch r.Method {
	case http.MethodGet:
	case http.MethodHead:
		a.store = false // served from what GET stored, and no more
	case http.MethodPost:
		if rules.Mode != OptIn || r.Asked() {
			break
		}
		// Who wants nothing but a stored response asks for one.
		a = access{read: r.control.onlyIfCached, forward: ForwardBypass, reason: ReasonNotAsked}
	default:
		return access{forward: ForwardMethod, reason: ReasonMethod}
	}
	switch {
	case rules.Mode == Off:
		return access{forward: ForwardBypass, reason: ReasonOff}
	case r.control.noStore:
		return access{forward: ForwardBypass, reason: ReasonNoStore}
	case r.precondition:
		a.read, a.forward, a.reason = false, ForwardBypass, ReasonPrecondition
	case r.ranged:
		a.read, a.forward, a.reason = false, ForwardBypass, ReasonRange
	}
	return a
}

// asks reports whether the request gets no more from the store than it asks for.
func (r *Request) asks(rules *Rules) bool {
	return r.Method == http.MethodPost && rules.Mode == OptIn
}

// oldest is the age up to which the client takes a stored response, or unset.
func (r *Request) oldest(rules *Rules) time.Duration {
	if r.asks(rules) {
		n, _ := r.control.asked()
		return n
	}
	return r.control.maxAge
}
