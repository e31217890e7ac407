// Package project holds projects, their provider keys, and the policy that a
// project or one of its tokens sets for its requests.
package project

import (
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// MaxNameBytes bounds names and labels.
const MaxNameBytes = 255

// Project owns tokens and provider keys.
type Project struct {
	ID            uuid.UUID // UUIDv7
	Name          string    // unique
	Active        bool      // an inactive project's tokens are refused with 403 project_inactive
	DeactivatedAt *time.Time
	UseSharedKeys bool // may use a provider's configured api_key when it has no key of its own
	Policy        Policy
	Version       int64 // grows with every change that requests must see, its keys' included
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// Key is a provider credential of a project, without the credential itself.
type Key struct {
	ID        uuid.UUID // UUIDv7
	ProjectID uuid.UUID
	Provider  string // name of a configured provider
	Label     string
	Last4     string // last characters of the credential, for people; may be empty
	Weight    int    // share among the project's keys of this provider; at least 1
	Priority  int    // lower is tried first
	Active    bool
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Credential is an active key with its secret, ready to be sent to its provider.
type Credential struct {
	KeyID    uuid.UUID
	Provider string
	Secret   secret.Value
	Weight   int
	Priority int
	Err      error // not nil: the stored secret could not be opened; this key alone is unusable
}

// Snapshot is what the request path needs to know of a project.
type Snapshot struct {
	Project
	Credentials []Credential // active ones, by provider, priority and id
}
