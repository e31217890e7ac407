package limit

import (
	"errors"
	"fmt"
	"time"
)

// Scope is whom a limit is for.
type Scope uint8

// The scopes.
const (
	Token Scope = iota + 1
	Project
	IP
	Global
)

var scopes = [...]string{Token: "token", Project: "project", IP: "ip", Global: "global"}

// String is the scope as the configuration has it.
func (s Scope) String() string {
	if s == 0 || int(s) >= len(scopes) {
		return "unknown"
	}
	return scopes[s]
}

// Kind is what a limit counts.
type Kind uint8

// The kinds, of which the first two have windows.
const (
	Requests Kind = iota + 1
	Tokens
	Concurrency
)

var kinds = [...]string{Requests: "requests", Tokens: "tokens", Concurrency: "concurrency"}

// String is the kind as `metadata.limit` of a refusal has it.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kinds) {
		return "unknown"
	}
	return kinds[k]
}

// Key is a limit's identity. Whoever asks with an equal key shares its counters:
// handlers, configurations before and after a reload, nodes with the same Redis.
type Key struct {
	Scope  Scope
	Kind   Kind
	Window time.Duration // 0 for Concurrency

	// ID is the token's or project's id, [Network] of the client's address, or
	// empty for Global.
	ID string

	// Project is the project's id, for Token and Project: their limits lie in one
	// slot of a Redis Cluster by it.
	Project string
}

// Limit is a key with its amount, which may be another one at every call.
type Limit struct {
	Key
	Amount int64
}

// Demand is what a request wants of a limit: a weight of 1, or its estimated
// tokens.
type Demand struct {
	Limit
	Weight int64
}

// Bounds of what is accepted. Redis computes in doubles, which are exact for
// integers up to 2^53; sums stay below that.
const (
	MinWindow = time.Second
	MaxWindow = 366 * 24 * time.Hour
	MaxAmount = 1_000_000_000_000_000

	maxDemands = 64
)

// Errors of a caller who did not check.
var (
	errScope   = errors.New("expected scope token, project, ip or global")
	errKind    = errors.New("expected kind requests, tokens or concurrency")
	errWindow  = fmt.Errorf("expected a window of %s to %s, and none for concurrency", MinWindow, MaxWindow)
	errAmount  = fmt.Errorf("expected an amount of 0 to %d", int64(MaxAmount))
	errWeight  = fmt.Errorf("expected a weight of 0 to %d, and of at least 1 for concurrency", int64(MaxAmount))
	errDemands = fmt.Errorf("a request may have %d limits at most", maxDemands)
)

// Validate reports what is wrong with the limit.
func (l *Limit) Validate() error {
	switch {
	case l.Scope < Token || l.Scope > Global:
		return errScope
	case l.Kind < Requests || l.Kind > Concurrency:
		return errKind
	case l.Kind == Concurrency && l.Window != 0:
		return errWindow
	case l.Kind != Concurrency && (l.Window < MinWindow || l.Window > MaxWindow):
		return errWindow
	case l.Amount < 0 || l.Amount > MaxAmount:
		return errAmount
	}
	return nil
}

// before is an order of limits.
func (l *Limit) before(other *Limit) bool {
	switch {
	case l.Kind != other.Kind:
		return l.Kind < other.Kind
	case l.Scope != other.Scope:
		return l.Scope < other.Scope
	}
	return l.Window < other.Window
}

func (d *Demand) validate() error {
	if err := d.Limit.Validate(); err != nil {
		return err
	}
	if d.Weight < 0 || d.Weight > MaxAmount || d.Kind == Concurrency && d.Weight == 0 {
		return errWeight
	}
	return nil
}
