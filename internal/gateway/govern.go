package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

// Limits are what requests are held against besides policy, and what counts them.
type Limits struct {
	// Limiter counts rates and concurrency; nil: they are not limited.
	Limiter limit.Limiter
	// Rules are the limits of this gateway's requests, without ids. Those of tokens
	// and projects come with them.
	Rules     []limit.Limit
	OnFailure limit.Policy
	// Estimator guesses what a request will use, for limits of tokens.
	Estimator *limit.Estimator
	// Ledger keeps the quotas and budgets of tokens and projects; nil: nobody does.
	Ledger Ledger
}

// governed is what one request has taken of its limits.
type governed struct {
	demands []limit.Demand
	ticket  limit.Ticket
	weighed bool // a limit of tokens is among them

	accounts []ledger.Limit
	holds    []ledger.Demand
	held     ledger.Ticket
	open     bool // of a cost that nobody can bound
}

var governedPool = sync.Pool{New: func() any { return new(governed) }}

const perMinute = time.Minute

// govern takes what the request needs of every limit that applies, or refuses it.
// The strict ones come first, since what they hold is given back without a trace.
func (x *exchange) govern(a *ask, body []byte) *apierr.Error {
	strict, rated := x.accountable(), x.ruled()
	if !strict && !rated {
		return nil
	}
	if x.governed == nil {
		x.governed = governedPool.Get().(*governed)
		x.governed.weighed = false // of the request that had it before
	}
	if strict {
		if err := x.takeHolds(a, body); err != nil {
			return err
		}
	}
	if rated {
		return x.takeRates(a)
	}
	return nil
}

// ruled reports whether any rate or concurrency is limited for this request.
func (x *exchange) ruled() bool {
	if x.g.cfg.Limits.Limiter == nil {
		return false
	}
	t, p := &x.identity.Token.Policy.Limits, &x.identity.Project.Policy.Limits
	return len(x.g.cfg.Limits.Rules) > 0 ||
		t.RPM != nil || t.TPM != nil || t.Concurrency != nil ||
		p.RPM != nil || p.TPM != nil || p.Concurrency != nil
}

// sized reports whether the body must say how much it asks for: for limits of
// tokens, and for budgets.
func (x *exchange) sized() bool { return x.weighs() || x.budgeted() }

// weighs reports whether tokens are limited, so that the body must say how many
// it asks for.
func (x *exchange) weighs() bool {
	if x.g.cfg.Limits.Limiter == nil {
		return false
	}
	return x.g.weighs || x.identity.Token.Policy.TPM != nil || x.identity.Project.Policy.TPM != nil
}

func (x *exchange) takeRates(a *ask) *apierr.Error {
	v, cfg := x.governed, &x.g.cfg.Limits
	v.collect(x)
	if v.weighed {
		weight := x.estimate(a)
		for i := range v.demands {
			if v.demands[i].Kind == limit.Tokens {
				v.demands[i].Weight = weight
			}
		}
	}
	decision, err := cfg.Limiter.Take(x.r.Context(), limit.Request{Demands: v.demands, OnFailure: cfg.OnFailure}, &v.ticket)
	switch {
	case errors.Is(err, limit.ErrUnavailable):
		x.rec.Limit = limitUnavailable
		return errLimiter.WithCause(err)
	case err != nil:
		return errLimiter.WithCause(err)
	}
	x.requests, x.tokens = decision.Requests, decision.Tokens
	if decision.Admitted {
		return nil
	}
	return x.rateRefusal(&decision)
}

// collect fills in the demands: those of the token's policy, which take the place
// of the gateway's of the same kind by the minute, those of the project's, and the
// gateway's others.
func (v *governed) collect(x *exchange) {
	id := &x.identity
	v.demands, v.weighed = v.demands[:0], false
	own := &id.Token.Policy.Limits
	v.add(x, limit.Token, own.RPM, own.TPM, own.Concurrency)
	theirs := &id.Project.Policy.Limits
	v.add(x, limit.Project, theirs.RPM, theirs.TPM, theirs.Concurrency)
	for _, rule := range x.g.cfg.Limits.Rules {
		if rule.Scope == limit.Token {
			switch {
			case rule.Kind == limit.Requests && rule.Window == perMinute && own.RPM != nil,
				rule.Kind == limit.Tokens && rule.Window == perMinute && own.TPM != nil,
				rule.Kind == limit.Concurrency && own.Concurrency != nil:
				continue
			}
		}
		v.demand(x, rule)
	}
}

func (v *governed) add(x *exchange, scope limit.Scope, rpm, tpm, concurrency *int64) {
	if rpm != nil {
		v.demand(x, limit.Limit{Key: limit.Key{Scope: scope, Kind: limit.Requests, Window: perMinute}, Amount: *rpm})
	}
	if tpm != nil {
		v.demand(x, limit.Limit{Key: limit.Key{Scope: scope, Kind: limit.Tokens, Window: perMinute}, Amount: *tpm})
	}
	if concurrency != nil {
		v.demand(x, limit.Limit{Key: limit.Key{Scope: scope, Kind: limit.Concurrency}, Amount: *concurrency})
	}
}

// demand adds a limit with the id of whoever it is for.
func (v *governed) demand(x *exchange, l limit.Limit) {
	switch l.Scope {
	case limit.Token:
		l.ID, l.Project = x.identity.TokenText, x.identity.ProjectText
	case limit.Project:
		l.ID, l.Project = x.identity.ProjectText, x.identity.ProjectText
	case limit.IP:
		l.ID = limit.Network(x.g.cfg.ClientIP(x.r))
	}
	v.weighed = v.weighed || l.Kind == limit.Tokens
	v.demands = append(v.demands, limit.Demand{Limit: l, Weight: 1})
}

// rateRefusal is the answer to a request for which there is no room.
func (x *exchange) rateRefusal(d *limit.Decision) *apierr.Error {
	l := &d.Refused
	x.rec.Limit = l.Kind.String()
	e := *errRate
	e.Metadata = map[string]string{"limit": l.Kind.String(), "scope": l.Scope.String(), "amount": strconv.FormatInt(l.Amount, 10)}
	e.Message = x.governed.explain(d)
	if d.Never {
		e.Retry = apierr.RetryNo
		return &e
	}
	if e.RetryAfter = d.RetryAfter; d.RetryAfter > maxRetryWait {
		e.Retry = apierr.RetryNo
	}
	return &e
}

// explain says which limit has no room for the request, and for how long.
func (v *governed) explain(d *limit.Decision) string {
	l := &d.Refused
	who, what, per := limited[l.Scope], "requests", ""
	switch {
	case l.Kind == limit.Concurrency && d.Never:
		return fmt.Sprintf("%s may have %d requests under way, so none is let through", who, l.Amount)
	case l.Kind == limit.Concurrency:
		return fmt.Sprintf("%s may have %d requests under way, and has; try again when one has ended", who, l.Amount)
	case l.Window == perMinute:
		per = "a minute"
	default:
		per = "in " + l.Window.String()
	}
	if l.Kind == limit.Tokens {
		what = "input and output tokens"
		for i := range v.demands {
			if v.demands[i].Key == l.Key {
				what += fmt.Sprintf(", and this request needs about %d", v.demands[i].Weight)
			}
		}
	}
	if d.Never {
		return fmt.Sprintf("%s may use %d %s %s", who, l.Amount, per, what)
	}
	return fmt.Sprintf("%s may use %d %s %s; try again in %s", who, l.Amount, per, what, (d.RetryAfter + time.Second - 1).Truncate(time.Second))
}

// limited is who a limit is for, as clients are told.
var limited = [...]string{limit.Token: "this proxy token", limit.Project: "the project of this proxy token", limit.IP: "this address", limit.Global: "everybody together"}

// maxRetryWait is up to where a client may sensibly wait by itself.
const maxRetryWait = time.Minute

// settleLimits gives back what the request has not used, when it is over.
func (x *exchange) settleLimits() {
	v := x.governed
	if v == nil {
		return
	}
	x.settleHolds()
	if v.weighed {
		in, out := x.rec.InputTokens, x.rec.OutputTokens
		switch x.rec.Cache {
		case CacheHit, CacheStale, CacheCoalesced:
			v.ticket.Settle(0)
			in.Known = false
		}
		if in.Known && out.Known {
			v.ticket.Settle(in.N + out.N)
			if x.rec.Outcome == OutcomeOK && !x.rec.Estimated && x.rec.UsageSource != "" {
				x.g.cfg.Limits.Estimator.Observe(x.rec.Model, out.N)
			}
		}
		if x.usedNothing() {
			v.ticket.Settle(0)
		}
	}
	v.ticket.Release()
	x.governed = nil
	governedPool.Put(v)
}

var errRate = apierr.New(http.StatusTooManyRequests, apierr.RateLimited, "")

// limitUnavailable is the limit's name when nobody can tell.
const limitUnavailable = "unavailable"

// usedNothing reports whether no model has worked for the request: nothing was sent, or
// the provider has answered with an error.
func (x *exchange) usedNothing() bool {
	switch x.rec.Outcome {
	case OutcomeClientCancelled, OutcomeCut:
		return !x.answered && !x.reached.Load()
	}
	return x.answered && x.rec.Status >= http.StatusMultipleChoices || !x.answered && !x.reached.Load()
}
