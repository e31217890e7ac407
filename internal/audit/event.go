package audit

import (
	"time"

	"github.com/gofrs/uuid/v5"
)

// Event is an entry as people and programs read it: in the management API and in
// the audit file.
type Event struct {
	ID          uuid.UUID              `json:"id"`
	Timestamp   time.Time              `json:"timestamp"`
	Action      string                 `json:"action"`
	Actor       string                 `json:"actor"`
	Outcome     string                 `json:"outcome"`
	Reason      string                 `json:"reason,omitzero"`
	TargetType  string                 `json:"target_type,omitzero"`
	TargetID    *uuid.UUID             `json:"target_id,omitzero"`
	ProjectID   *uuid.UUID             `json:"project_id,omitzero"`
	TokenID     *uuid.UUID             `json:"token_id,omitzero"` // TargetID, when that is a token
	ClientIP    string                 `json:"client_ip"`
	RequestID   string                 `json:"request_id"`
	Method      string                 `json:"method"`
	Path        string                 `json:"path"`
	UserAgent   string                 `json:"user_agent"`
	Occurrences int64                  `json:"occurrences"`
	Changes     map[string]EventChange `json:"changes,omitzero"`
}

// EventChange is a [Change] that leaves out a side that was not there, and shows
// one that was empty.
type EventChange struct {
	Before any `json:"before,omitzero"`
	After  any `json:"after,omitzero"`
}

// Event is the entry as others read it.
func (e *Entry) Event() Event {
	v := Event{
		ID: e.ID, Timestamp: e.Time.UTC(), Action: e.Action, Actor: e.Actor, Outcome: e.Outcome, Reason: e.Reason,
		TargetType: e.TargetType, TargetID: idOrNothing(e.TargetID), ProjectID: idOrNothing(e.ProjectID),
		ClientIP: e.ClientIP, RequestID: e.RequestID, Method: e.Method, Path: e.Path, UserAgent: e.UserAgent, Occurrences: e.Occurrences,
	}
	if e.TargetType == TargetToken {
		v.TokenID = v.TargetID
	}
	if len(e.Changes) > 0 {
		v.Changes = make(map[string]EventChange, len(e.Changes))
		for field, change := range e.Changes {
			v.Changes[field] = EventChange(change)
		}
	}
	return v
}

func idOrNothing(id uuid.UUID) *uuid.UUID {
	if id.IsNil() {
		return nil
	}
	return &id
}
