package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// Scope is whom an account belongs to.
type Scope uint8

// The scopes.
const (
	Token Scope = iota + 1
	Project
)

var scopes = [...]string{Token: "token", Project: "project"}

// String is the scope as the database has it.
func (s Scope) String() string { return scopes[s] }

// Unit is what an account counts.
type Unit uint8

// The units.
const (
	Requests Unit = iota + 1
	Money         // in nanodollars
)

var units = [...]string{Requests: "requests", Money: "nano_usd"}

// String is the unit as the database has it.
func (u Unit) String() string { return units[u] }

// Parse reads a scope and a unit as the database has them.
func Parse(scope, unit string) (s Scope, u Unit, err error) {
	i, k := slices.Index(scopes[:], scope), slices.Index(units[:], unit)
	if i < 1 || k < 1 {
		return 0, 0, fmt.Errorf("an account of the scope %q and the unit %q: expected token or project, requests or nano_usd", scope, unit)
	}
	return Scope(i), Unit(k), nil
}

// Account is what a limit is for. Within each of its periods it begins at zero.
type Account struct {
	Scope  Scope
	ID     uuid.UUID
	Unit   Unit
	Period project.Period // of a quota always [project.Total]
}

// Limit is how much an account may use within one period.
type Limit struct {
	Account
	Amount  int64
	Version int64 // of the token or project that the amount is from; the newest one counts
}

// MaxAmount bounds amounts, so that sums of them never overflow. A limit above it
// counts as this.
const MaxAmount = 1 << 60

// maxCost bounds what a provider's numbers may charge in one request beyond its hold.
const maxCost = 1 << 50

// Key is an account in one of its periods.
type Key struct {
	Account
	Start int64 // of the period, microseconds UTC; 0 for [project.Total]
}

// Compare orders keys as databases do, and as every transaction locks them.
func (k *Key) Compare(o *Key) int {
	return cmp.Or(cmp.Compare(k.Scope.String(), o.Scope.String()), slices.Compare(k.ID[:], o.ID[:]), cmp.Compare(k.Unit.String(), o.Unit.String()),
		cmp.Compare(k.Period, o.Period), cmp.Compare(k.Start, o.Start))
}

// Limits are the accounts of a token or project with these limits: none, one, or two.
func Limits(to []Limit, scope Scope, id uuid.UUID, version int64, l *project.Limits) []Limit {
	if l.MaxRequests != nil {
		to = append(to, Limit{Account{scope, id, Requests, project.Total}, *l.MaxRequests, version})
	}
	if l.BudgetUSD != nil {
		period := l.BudgetPeriod
		if period == "" {
			period = project.Total
		}
		to = append(to, Limit{Account{scope, id, Money, period}, min(int64(*l.BudgetUSD), MaxAmount), version})
	}
	return to
}

var errAccount = errors.New("an account without scope, unit or id")

func (l *Limit) validate() error {
	if l.Scope != Token && l.Scope != Project || l.Unit != Requests && l.Unit != Money || l.ID.IsNil() {
		return errAccount
	}
	if spanOf(l.Period) < 0 {
		return fmt.Errorf("the period %q: expected total, day, week or month", string(l.Period))
	}
	return nil
}
