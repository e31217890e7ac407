package gateway

import (
	"time"

	"github.com/gofrs/uuid/v5"
)

// Outcomes of a request, as logs and events name them.
const (
	OutcomeOK              = "ok"
	OutcomeRefused         = "refused"          // by us, before a provider was asked
	OutcomeClientCancelled = "client_cancelled" // the client left
	OutcomeUpstreamError   = "upstream_error"   // the provider failed, or answered with an error
	OutcomeCut             = "cut"              // we ended it: token revoked or expired, project deactivated
)

// Record is what is known of a request when it is over. It holds no secret.
type Record struct {
	RequestID         string // X-LLM-Proxy-Request-Id, a UUIDv7
	UpstreamRequestID string // the provider's x-request-id or request-id
	ProjectID         uuid.UUID
	TokenID           uuid.UUID
	KeyID             uuid.UUID // zero: the provider's shared key
	Provider          string
	Endpoint          string
	Model             string // as asked for
	Status            int
	Code              string // of our own error, if it was one
	Outcome           string
	Stream            bool
	Attempts          int
	Started           time.Time
	Duration          time.Duration
	Upstream          time.Duration // until the provider's response header
	FirstByte         time.Duration // from the start to the first body byte; 0: none
	BytesIn           int64
	BytesOut          int64
}
