// Package audit defines the record of what was done, and what was refused. A
// change made through the management API and its record are one transaction;
// refusals are recorded a moment later, by a [Recorder].
package audit

import (
	"time"

	"github.com/gofrs/uuid/v5"
)

// Actions, in the predecessor's spelling where it had one, outcomes, actors and
// kinds of targets.
const (
	ProjectCreate     = "project.create"
	ProjectUpdate     = "project.update"
	ProjectDelete     = "project.delete" // always refused
	KeyCreate         = "key.create"
	KeyUpdate         = "key.update"
	KeyDelete         = "key.delete"
	TokenCreate       = "token.create"
	TokenUpdate       = "token.update"
	TokenRevoke       = "token.revoke"
	TokenRevokeBatch  = "token.revoke_batch"
	TokenRotate       = "token.rotate"
	EventsReplay      = "events.replay"
	EventsRequeue     = "events.requeue"
	ManagementLogin   = "management.login"
	ProxyDenied       = "proxy.denied"
	CachePurge        = "cache.purge"
	DatabaseRestore   = "database.restore"
	PredecessorImport = "predecessor.import"
	ManagementToken   = "management_token"
	OutcomeSuccess    = "success"
	OutcomeDenied     = "denied"
	OutcomeFailure    = "failure"
	ActorAnonymous    = "anonymous"
	ActorToken        = "token"
	ActorCommandLine  = "command_line"
	ActorLocal        = "admin_endpoint" // Caddy's, which whoever reaches it may use
	TargetProject     = "project"
	TargetProviderKey = "provider_key"
	TargetToken       = "token"
	TargetSink        = "sink"  // by name, which is among the changes
	TargetCache       = "cache" // what of it is among the changes
)

// Entry is one audited action. Secrets never enter it.
type Entry struct {
	ID         uuid.UUID         // UUIDv7
	Time       time.Time         // UTC
	Actor      string            // who: "management_token", later a named admin
	Action     string            // one of the constants above
	Outcome    string            // OutcomeSuccess, OutcomeDenied (not allowed in) or OutcomeFailure (understood, and refused)
	TargetType string            // TargetProject, TargetProviderKey, TargetToken, TargetSink, TargetCache
	TargetID   uuid.UUID         // zero when the action has no single target
	ProjectID  uuid.UUID         // zero when none
	ClientIP   string            // as Caddy's trusted_proxies rules see it
	RequestID  string            // X-Request-Id of the management call
	Method     string            // HTTP method of the call
	Path       string            // path of the call
	UserAgent  string            // at most 256 bytes
	Reason     string            // given by the caller, such as ?reason= of a revocation; of a refusal its code
	Changes    map[string]Change // changed fields; secrets appear as "[redacted]"

	// Occurrences is how many events the entry stands for, where counting replaces
	// one entry each. Zero is written as one.
	Occurrences int64
}

// Change is the value of one field before and after an action.
type Change struct {
	Before any `json:"before,omitempty"`
	After  any `json:"after,omitempty"`
}
