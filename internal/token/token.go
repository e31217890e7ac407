// Package token mints withering tokens and recognises them: they expire, can
// be revoked, and are restricted by a policy of their own.
package token

import (
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// DefaultLifetime is how long a token lives when its creator does not say.
const DefaultLifetime = 30 * 24 * time.Hour

// Token is a row of the tokens table. The secret itself is nowhere.
type Token struct {
	ID           uuid.UUID // UUIDv7, also inside the token's text; of a legacy token see Secret.RowID
	ProjectID    uuid.UUID
	Name         string
	Active       bool
	RevokedAt    *time.Time
	RevokeReason string
	ExpiresAt    *time.Time // nil: never
	Policy       project.Policy
	Hash         []byte
	HashScheme   string // SchemeHMAC or SchemeLegacy
	Version      int64  // grows with every change that requests must see
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// Expired reports whether the token's time is over at now.
func (t *Token) Expired(now time.Time) bool { return t.ExpiresAt != nil && !now.Before(*t.ExpiresAt) }

// Record is a token with its project, as one query loads them.
type Record struct {
	Token   Token
	Project project.Snapshot
}

// Change announces that a token or a project changed: what is remembered of it
// below Version is out of date.
type Change struct {
	Kind    ChangeKind
	ID      uuid.UUID
	Version int64
	Revoked bool // its in-flight requests must end: the token was revoked or the project deactivated
}

// ChangeKind says what a [Change] is about.
type ChangeKind uint8

// Kinds of changes.
const (
	TokenChanged         ChangeKind = iota + 1
	ProjectChanged                  // the project's row or one of its keys
	ProjectTokensRevoked            // every token of the project was revoked at once
)
