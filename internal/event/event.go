// Package event keeps the record of every request, and of alerts about what requests
// have used: what it is, how it is written down, and the log that takes it without
// making a request wait.
package event

import (
	"net/netip"
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"
)

// Sources of an event's token counts.
const (
	UsageProvider  = "provider"  // the provider has reported them
	UsageEstimated = "estimated" // from bytes, since the provider has not, or not all
	UsageNone      = "none"      // nothing was used, or nothing is known
)

// Event is one request that passed authentication, or an alert. Its JSON form is that
// of [Event.AppendJSON]; members whose value is unknown or empty are null or absent.
type Event struct {
	ID                uuid.UUID // UUIDv7; the request's id too, which the client got as X-LLM-Proxy-Request-Id
	Time              time.Time // the request's beginning, UTC
	Method            string
	Endpoint          string // canonical path, such as /v1/chat/completions
	UpstreamRequestID string // the provider's x-request-id or request-id
	ProjectID         uuid.UUID
	TokenID           uuid.UUID
	KeyID             uuid.UUID // zero: the provider's shared key, or none
	Provider          string
	Model             string // as asked for
	ResponseModel     string // as the provider calls it
	ServiceTier       string
	Status            int
	Outcome           string // ok, refused, client_cancelled, upstream_error, cut
	Code              string // of our own error, if it was one
	Stream            bool
	Attempts          int
	Cache             string // hit, miss, …; "" where nothing was looked up
	Latency           time.Duration
	TTFT              time.Duration // to the first byte of the answer's body; 0: none
	Overhead          time.Duration // what the proxy took itself
	BytesIn           int64
	BytesOut          int64

	InputTokens      Count // with those below that are input
	CachedTokens     Count
	CacheWriteTokens Count
	OutputTokens     Count // with ReasoningTokens
	ReasoningTokens  Count
	SavedTokens      int64 // input and output of the answer that the cache gave again
	Estimated        bool
	UsageSource      string // one of the Usage constants
	CostNanoUSD      Count  // unknown: the model has no price
	PriceVersion     string

	ClientIP netip.Addr
	EndUser  string
	Metadata map[string]string // the token's; shared, not to be changed

	Request           string // captured bodies as JSON; "" where none is
	Response          string
	RequestTruncated  bool
	ResponseTruncated bool

	// Alert, if it is not nil, says that this is no request: ID, Time, ProjectID and
	// TokenID are the alert's, and nothing else is set. It is not to be changed.
	Alert *Alert

	// Prepare, if it is not nil, is called once, off the request's path and before
	// the event is written anywhere: to make captured bodies fit to be kept.
	Prepare func(*Event)
}

func (e *Event) prepare() {
	if e.Prepare != nil {
		e.Prepare(e)
		e.Prepare = nil
	}
}

// Count is a number that may be unknown, which zero is not.
type Count struct {
	N     int64
	Known bool
}

// Known makes a known count.
func Known(n int64) Count { return Count{n, true} }

var pool = sync.Pool{New: func() any { return new(Event) }}

// Get returns an empty event, perhaps used before.
func Get() *Event { return pool.Get().(*Event) }

// Release lets the event be used again; nobody may look at it any more.
func (e *Event) Release() {
	*e = Event{}
	pool.Put(e)
}
