package httpcache

import "time"

// Action is what to do with a request.
type Action uint8

const (
	// SendOn goes to the provider. Decision.Store says whether the answer may be
	// stored: give it to Consider.
	SendOn Action = iota
	// Answer takes the stored response, or a 304 if Decision.NotModified.
	Answer
	// Confirm goes to the provider with SetConditions. A 304 goes to Freshen, a
	// 200 to Consider; when the provider fails, UseOnError decides.
	Confirm
	// Timeout is 504: the client wants nothing but a stored response, and there is none.
	Timeout
)

// Decision is what Evaluate says.
type Decision struct {
	Action      Action
	NotModified bool // Answer: the client has it already
	Stale       bool // Answer: with a response that is not fresh
	Background  bool // Answer: and refresh it meanwhile, by Confirm or SendOn

	Store bool // the answer may be stored
	Join  bool // the request may wait for the answer to another one like it

	Forward Forward // why the cache did not answer, for Cache-Status
	Reason  Reason
	TTL     time.Duration // of the stored response
}

// Status is what Cache-Status says of the decision. Who knows more adds it: that
// the answer was stored, or came to several at once.
func (d *Decision) Status() Status {
	if d.Action == Answer {
		return Status{Hit: true, HasTTL: true, TTL: d.TTL, Detail: d.Reason}
	}
	if d.Reason == ReasonStale { // which is what fwd says
		return Status{Forward: d.Forward}
	}
	return Status{Forward: d.Forward, Detail: d.Reason}
}

// Reads reports whether a request is worth a look into the store. If not,
// Evaluate needs no stored response to decide.
func (r *Request) Reads(rules *Rules) bool {
	return rules.Mode != Off && r.access(rules).read
}

// Evaluate decides what answers a request. stored is what the store has for its
// key and variant, or nil; it is used only as far as the request allows.
func Evaluate(req *Request, stored *Meta, now time.Time, rules *Rules) Decision {
	a := req.access(rules)
	c := &req.control
	d := Decision{Store: a.store, Forward: a.forward, Reason: a.reason}
	if !a.read {
		return req.sendOn(d, rules)
	}
	// Who does not take what is stored does not take what is on its way, either:
	// it was asked for before.
	d.Join = a.store && !c.noCache && c.maxAge != 0 && !req.conditional
	if stored == nil {
		if d.Forward == "" {
			d.Forward = ForwardURIMiss
		}
		return req.sendOn(d, rules)
	}

	d.Join = d.Join && !stored.AlwaysConfirm
	age, oldest := stored.Age(now), req.oldest(rules)
	d.TTL = stored.Lifetime - age
	stale := d.TTL <= 0
	reason, forward := ReasonNone, ForwardStale
	switch {
	case stored.AlwaysConfirm:
		reason = ReasonRespNoCache
	case c.noCache:
		reason, forward = ReasonReqNoCache, ForwardRequest
	case oldest == 0 || oldest != unset && age > oldest:
		reason, forward = ReasonReqMaxAge, ForwardRequest
	case !stale && c.minFresh != unset && d.TTL < c.minFresh:
		reason, forward = ReasonReqMinFresh, ForwardRequest
	case !stale:
		d.Reason = ReasonNone
		return req.answer(d, stored)
	case stored.NeverStale:
		reason = ReasonStale
	case c.maxStale != unset && -d.TTL <= c.maxStale && c.minFresh == unset:
		d.Stale, d.Reason = true, ReasonStaleAccept
		return req.answer(d, stored)
	case -d.TTL < stored.WhileRefresh && c.minFresh == unset && !req.asks(rules):
		d.Stale, d.Background, d.Reason = true, !c.onlyIfCached, ReasonStaleRefresh
		return req.answer(d, stored)
	default:
		reason = ReasonStale
	}
	d.Forward, d.Reason = forward, reason
	d = req.sendOn(d, rules)
	if d.Action == SendOn && req.Method == stored.Method && stored.Validated() {
		d.Action = Confirm
	}
	return d
}

// sendOn is SendOn, or Timeout for who wants nothing but a stored response.
func (r *Request) sendOn(d Decision, rules *Rules) Decision {
	if r.control.onlyIfCached && rules.Mode != Off && d.Forward != ForwardMethod {
		return Decision{Action: Timeout, Reason: ReasonOnlyIfCached, TTL: d.TTL}
	}
	return d
}

func (r *Request) answer(d Decision, stored *Meta) Decision {
	d.Action, d.Forward, d.Join = Answer, "", false
	d.NotModified = NotModified(r, stored)
	return d
}

// UseOnError reports whether the stored response stands in for a provider that
// failed: status is what it answered, or 0 if there was no answer. Only what
// RFC 5861 counts as an error, and 529, with which providers say the same as with 503.
func UseOnError(req *Request, stored *Meta, status int, now time.Time, rules *Rules) bool {
	switch status {
	case 0, 500, 502, 503, 504, 529:
	default:
		return false
	}
	c := &req.control
	if stored == nil || stored.NeverStale || stored.AlwaysConfirm || !req.Reads(rules) {
		return false
	}
	// Whoever insists on a new answer gets the error. max-age does not insist: it
	// speaks of what is preferred while there is a choice (RFC 5861, 4).
	if c.noCache || c.maxAge == 0 || c.minFresh != unset {
		return false
	}
	window := stored.IfError
	if c.staleIfError != unset {
		window = c.staleIfError
	}
	return -stored.TTL(now) < window
}
