// Package audit defines the record that every change made through the
// management API leaves behind, in the same transaction as the change.
package audit

import (
	"time"

	"github.com/gofrs/uuid/v5"
)

// Actions, in the predecessor's spelling where it had one.
const (
	ProjectCreate     = "project.create"
	ProjectUpdate     = "project.update"
	KeyCreate         = "key.create"
	KeyUpdate         = "key.update"
	KeyDelete         = "key.delete"
	TokenCreate       = "token.create"
	TokenUpdate       = "token.update"
	TokenRevoke       = "token.revoke"
	TokenRevokeBatch  = "token.revoke_batch"
	TokenRotate       = "token.rotate"
	ManagementToken   = "management_token"
	OutcomeSuccess    = "success"
	OutcomeDenied     = "denied"
	ActorAnonymous    = "anonymous"
	ActorCommandLine  = "command_line"
	TargetProject     = "project"
	TargetProviderKey = "provider_key"
	TargetToken       = "token"
)

// Entry is one audited action. Secrets never enter it.
type Entry struct {
	ID         uuid.UUID         // UUIDv7
	Time       time.Time         // UTC
	Actor      string            // who: "management_token", later a named admin
	Action     string            // one of the constants above
	Outcome    string            // OutcomeSuccess or OutcomeDenied
	TargetType string            // TargetProject, TargetProviderKey, TargetToken
	TargetID   uuid.UUID         // zero when the action has no single target
	ProjectID  uuid.UUID         // zero when none
	ClientIP   string            // as Caddy's trusted_proxies rules see it
	RequestID  string            // X-Request-Id of the management call
	Method     string            // HTTP method of the call
	Path       string            // path of the call
	UserAgent  string            // at most 256 bytes
	Reason     string            // given by the caller, such as ?reason= of a revocation
	Changes    map[string]Change // changed fields; secrets appear as "[redacted]"
}

// Change is the value of one field before and after an action.
type Change struct {
	Before any `json:"before,omitempty"`
	After  any `json:"after,omitempty"`
}
