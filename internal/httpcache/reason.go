package httpcache

// Reason says in a word why a request was not answered from the cache, or a
// response was not stored. It is the detail of Cache-Status and a label of
// metrics: tokens, few, and without anything of the request.
type Reason string

const (
	ReasonNone Reason = ""

	// The cache does not take part.
	ReasonOff          Reason = "off"
	ReasonMethod       Reason = "method"
	ReasonNotAsked     Reason = "not-asked"    // a POST whose client did not opt in
	ReasonNoStore      Reason = "req-no-store" // the client's
	ReasonRange        Reason = "range"
	ReasonPrecondition Reason = "precondition"

	// A stored response could not be used.
	ReasonReqNoCache   Reason = "req-no-cache"
	ReasonReqMaxAge    Reason = "req-max-age"
	ReasonReqMinFresh  Reason = "req-min-fresh"
	ReasonRespNoCache  Reason = "resp-no-cache"
	ReasonStale        Reason = "stale"
	ReasonOnlyIfCached Reason = "only-if-cached"
	ReasonStaleError   Reason = "stale-if-error"
	ReasonStaleAccept  Reason = "max-stale"
	ReasonStaleRefresh Reason = "stale-while-revalidate"

	// A response is not stored.
	ReasonStatus      Reason = "status"
	ReasonRespNoStore Reason = "resp-no-store"
	ReasonPrivate     Reason = "private"
	ReasonVaryStar    Reason = "vary-star"
	ReasonVaryCred    Reason = "vary-credential"
	ReasonSetCookie   Reason = "set-cookie"
	ReasonNotShared   Reason = "not-shared" // RFC 9111, 3.5
	ReasonNoLifetime  Reason = "no-lifetime"
	ReasonNoEnd       Reason = "no-end" // a stream of which nobody could tell whether it is complete
)
