package gateway

import (
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// Outcomes of a request, as logs and events name them.
const (
	OutcomeOK              = "ok"
	OutcomeRefused         = "refused"          // by us, before a provider was asked
	OutcomeClientCancelled = "client_cancelled" // the client left
	OutcomeUpstreamError   = "upstream_error"   // the provider failed, or answered with an error
	OutcomeCut             = "cut"              // we ended it: token revoked or expired, project deactivated
)

// Record is what is known of a request when it is over: the event that is made
// of it, if the request passed authentication, and a little more. It holds no secret.
type Record struct {
	event.Event
	RequestID    string // ID as text, which the client gets as X-LLM-Proxy-Request-Id
	ProviderType string // the preset
	Limit        string // that refused it: requests, tokens, concurrency, max_requests, budget_usd or unavailable
	Overshoot    int64  // nanodollars that the provider has charged beyond what was held for the request
	Operation    string // as gen_ai.operation.name; "" for what it does not name
	Started      time.Time
	Upstream     time.Duration // until the provider's response header
	FirstByte    time.Duration // from the start to the first byte of the answer's body; 0: none
	CacheKey     respcache.Key // under which its answer is looked for or stored; zero: it is not
}

func newRecord() Record {
	id, text := newRequestID()
	now := time.Now()
	return Record{Event: event.Event{ID: id, Time: now.UTC()}, RequestID: text, Started: now}
}
