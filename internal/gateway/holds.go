package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// Ledger keeps quotas and budgets; [ledger.Ledger] does.
type Ledger interface {
	Hold(context.Context, []ledger.Demand, *ledger.Ticket) (ledger.Refusal, error)
	Balances(context.Context, []ledger.Limit) ([]ledger.Balance, error)
}

// Names of the strict limits, as fields of the management API.
const (
	limitRequests = "max_requests"
	limitBudget   = "budget_usd"
)

// accountable reports whether the request has a quota or a budget.
func (x *exchange) accountable() bool {
	if x.g.cfg.Limits.Ledger == nil {
		return false
	}
	t, p := &x.identity.Token.Policy.Limits, &x.identity.Project.Policy.Limits
	return t.MaxRequests != nil || p.MaxRequests != nil || t.BudgetUSD != nil || p.BudgetUSD != nil
}

// budgeted reports whether the request's cost is limited.
func (x *exchange) budgeted() bool {
	return x.g.cfg.Limits.Ledger != nil && (x.identity.Token.Policy.BudgetUSD != nil || x.identity.Project.Policy.BudgetUSD != nil)
}

// accounts are the quotas and budgets that the identity has.
func (x *exchange) accounts(to []ledger.Limit) []ledger.Limit {
	t, p := x.identity.Token, &x.identity.Project.Project
	to = ledger.Limits(to, ledger.Token, t.ID, t.Version, &t.Policy.Limits)
	return ledger.Limits(to, ledger.Project, p.ID, p.Version, &p.Policy.Limits)
}

// takeHolds holds one request, and what it may cost at most, of every account.
func (x *exchange) takeHolds(a *ask, body []byte) *apierr.Error {
	v := x.governed
	v.accounts, v.holds, v.open = x.accounts(v.accounts[:0]), v.holds[:0], false
	bound := int64(0)
	if x.budgeted() {
		var err *apierr.Error
		if bound, v.open, err = x.upperBound(a, body); err != nil {
			x.rec.Limit = limitBudget
			return err
		}
	}
	for _, account := range v.accounts {
		amount := int64(1)
		if account.Unit == ledger.Money {
			amount = bound
		}
		v.holds = append(v.holds, ledger.Demand{Limit: account, Amount: amount})
	}
	refusal, err := x.g.cfg.Limits.Ledger.Hold(x.ctx, v.holds, &v.held)
	switch {
	case err != nil:
		return errLedger.WithCause(err)
	case refusal.Kind != ledger.Admitted:
		return x.holdRefusal(&refusal, bound)
	}
	return nil
}

// holdRefusal is the answer to a request that a quota or budget has no room for.
func (x *exchange) holdRefusal(r *ledger.Refusal, bound int64) *apierr.Error {
	scope := r.Scope.String()
	if r.Unit == ledger.Requests {
		x.rec.Limit = limitRequests
		e := *errQuota
		e.Message = fmt.Sprintf(e.Message, limitedAccount[r.Scope], r.Limit)
		if r.Kind == ledger.InFlight {
			e = *errQuotaInFlight
		}
		e.Metadata = map[string]string{"limit": limitRequests, "scope": scope}
		return &e
	}
	x.rec.Limit = limitBudget
	e := *errBudgetInFlight
	switch r.Kind {
	case ledger.HoldTooLarge:
		e = *errHoldTooLarge
		e.Message = fmt.Sprintf(e.Message, usd.Format(bound), usd.Format(r.Limit), limitedAccount[r.Scope])
	case ledger.Exceeded:
		e = *errBudget
		e.Message = fmt.Sprintf(e.Message, usd.Format(r.Available), limitedAccount[r.Scope], usd.Format(bound))
	}
	e.Metadata = map[string]string{
		"limit": limitBudget, "scope": scope,
		"budget_usd": usd.Format(r.Limit), "hold_usd": usd.Format(bound), "available_usd": usd.Format(r.Available),
	}
	if !r.ResetsAt.IsZero() {
		e.Metadata["resets_at"] = r.ResetsAt.UTC().Format(time.RFC3339)
	}
	return &e
}

// traced has the exchange learn whether a connection was there for the request:
// one that was not sent counts for nothing.
func (x *exchange) traced(ctx context.Context) context.Context {
	if x.governed == nil || !x.governed.weighed && !x.governed.held.Holds() {
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { x.reached.Store(true) }})
}

// settleHolds charges what the request has cost, or gives everything back if it
// has reached no provider.
func (x *exchange) settleHolds() {
	held := &x.governed.held
	switch {
	case !held.Holds():
	case x.reached.Load(), x.answered:
		cost := x.charge()
		if bound := held.Held(); bound > 0 && cost > bound && !x.governed.open {
			x.rec.Overshoot = cost - bound
		}
		held.Settle(cost)
	default:
		held.Release()
	}
}

// returnHolds gives back what the request holds, once it is sure that no provider is
// asked for it.
func (x *exchange) returnHolds() {
	if v := x.governed; v != nil && !x.answered && !x.reached.Load() {
		v.held.Release()
	}
}

// charge is what a request that was sent has cost: nothing if the provider has
// answered with an error, all that was held if nobody knows.
func (x *exchange) charge() int64 {
	switch cost := x.rec.CostNanoUSD; {
	case x.answered && x.rec.Status >= http.StatusMultipleChoices && x.rec.Outcome != OutcomeClientCancelled && x.rec.Outcome != OutcomeCut:
		return 0
	case x.answered && cost.Known && !x.rec.Estimated:
		return cost.N
	case x.governed.open && cost.Known: // an estimate is better than nothing
		return cost.N
	case x.governed.open:
		return 0
	}
	return ledger.Unknown
}

var (
	errQuota          = noRetry(apierr.New(http.StatusTooManyRequests, apierr.QuotaExceeded, "%s has used up all of its %d requests"))
	errQuotaInFlight  = retryNow(apierr.New(http.StatusTooManyRequests, apierr.RateLimited, "the last requests that this token or its project may make are under way; try again when they have ended"))
	errHoldTooLarge   = apierr.New(http.StatusPaymentRequired, apierr.HoldTooLarge, "this request may cost up to %s USD, more than the whole budget of %s USD of %s; set max_tokens (or max_completion_tokens, max_output_tokens, maxOutputTokens) lower, or send less")
	errBudget         = apierr.New(http.StatusPaymentRequired, apierr.BudgetExceeded, "what is left of the budget, %s USD of %s, does not cover the %s USD that this request may cost; a lower max_tokens may fit")
	errBudgetInFlight = retryNow(apierr.New(http.StatusPaymentRequired, apierr.BudgetInFlight, "what is left of the budget is held by requests under way; try again when they have ended"))
	errLedger         = retryAfter(apierr.New(http.StatusServiceUnavailable, apierr.StoreUnavailable, "the proxy cannot check quotas and budgets at the moment; try again soon"), time.Second)
)

// limitedAccount is who a quota or budget is for, as clients are told.
var limitedAccount = [...]string{ledger.Token: limited[limit.Token], ledger.Project: limited[limit.Project]}

func retryNow(e *apierr.Error) *apierr.Error {
	e.Retry = apierr.RetryYes
	return retryAfter(e, time.Second)
}
