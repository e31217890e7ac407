package gateway

import (
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// selfLimit is how a limit stands, in requests, tokens or dollars. Of what nobody
// can tell at the moment, and of slots, it has the limit alone.
type selfLimit struct {
	Limit     any            `json:"limit"`
	Used      any            `json:"used,omitempty"`
	Held      any            `json:"held,omitempty"` // by requests under way
	Available any            `json:"available,omitempty"`
	Period    project.Period `json:"period,omitzero"`
	ResetsAt  *time.Time     `json:"resets_at,omitempty"` // when all of it is available again; absent: never
}

// standing fills in how the token's and the project's limits stand. It takes
// nothing from them.
func (x *exchange) standing(to *selfLimits) *apierr.Error {
	t, p := x.identity.Token, &x.identity.Project.Project
	x.ratesOf(&to.Token, &t.Policy.Limits, limit.Token, x.identity.TokenText)
	x.ratesOf(&to.Project, &p.Policy.Limits, limit.Project, x.identity.ProjectText)
	if !x.accountable() {
		return nil
	}
	balances, err := x.g.cfg.Limits.Ledger.Balances(x.ctx, x.accounts(nil))
	if err != nil {
		return errLedger.WithCause(err)
	}
	for i := range balances {
		b := &balances[i]
		s := &to.Token
		if b.Scope == ledger.Project {
			s = &to.Project
		}
		if b.Unit == ledger.Requests {
			s.MaxRequests = &selfLimit{Limit: b.Limit, Used: b.Used, Held: b.Held, Available: b.Available}
			continue
		}
		s.BudgetUSD = &selfLimit{
			Limit: usd.Format(b.Limit), Used: usd.Format(b.Used), Held: usd.Format(b.Held), Available: usd.Format(b.Available), Period: b.Period,
		}
		if !b.ResetsAt.IsZero() {
			s.BudgetUSD.ResetsAt = &b.ResetsAt
		}
	}
	return nil
}

func (x *exchange) ratesOf(to *selfPolicy, l *project.Limits, scope limit.Scope, id string) {
	if x.g.cfg.Limits.Limiter == nil {
		return
	}
	key := limit.Key{Scope: scope, Window: perMinute, ID: id, Project: x.identity.ProjectText}
	if l.RPM != nil {
		key.Kind = limit.Requests
		to.RPM = x.rate(limit.Limit{Key: key, Amount: *l.RPM})
	}
	if l.TPM != nil {
		key.Kind = limit.Tokens
		to.TPM = x.rate(limit.Limit{Key: key, Amount: *l.TPM})
	}
	if l.Concurrency != nil {
		to.Concurrency = &selfLimit{Limit: *l.Concurrency}
	}
}

// rate asks how a window stands, by taking nothing of it.
func (x *exchange) rate(l limit.Limit) *selfLimit {
	var ticket limit.Ticket
	s := &selfLimit{Limit: l.Amount}
	d, err := x.g.cfg.Limits.Limiter.Take(x.ctx, limit.Request{Demands: []limit.Demand{{Limit: l}}, OnFailure: x.g.cfg.Limits.OnFailure}, &ticket)
	if err != nil {
		return s
	}
	q := d.Requests
	if l.Kind == limit.Tokens {
		q = d.Tokens
	}
	s.Used, s.Held, s.Available = l.Amount-q.Remaining, int64(0), q.Remaining
	resets := time.Now().Add(q.Reset).UTC()
	s.ResetsAt = &resets
	return s
}
