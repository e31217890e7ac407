package adminapi

import (
	"context"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// What a limit is of.
const (
	ScopeToken   = "token"
	ScopeProject = "project"
)

// Balances tells what is used of the limits of a token or a project, named by its
// scope and id. Limits that nobody keeps count of have no balance.
type Balances func(ctx context.Context, scope string, id uuid.UUID, limits *project.Limits) ([]Balance, error)

// Balance is what is used of one limit, within its present period: requests or
// tokens, of budget_usd nanodollars.
type Balance struct {
	Limit     string     // its name in the API, such as max_requests
	Amount    int64      // of the limit
	Used      int64      // may be more than there is, after the limit was lowered
	Held      int64      // by requests that are under way
	Available int64      // below 0 stands for 0
	ResetsAt  *time.Time // when the next period begins; nil: never
}

// balanceView is a balance as the API shows it: money as decimal strings, which no
// client rounds, the rest as numbers.
type balanceView struct {
	Limit     string     `json:"limit"`
	Amount    any        `json:"limit_amount"`
	Used      any        `json:"used"`
	Held      any        `json:"held"`
	Available any        `json:"available"`
	ResetsAt  *time.Time `json:"resets_at"` // null: never
}

func viewBalance(b *Balance) balanceView {
	amount := func(n int64) any {
		if b.Limit == "budget_usd" {
			return usd.Amount(n)
		}
		return n
	}
	return balanceView{
		Limit: b.Limit, Amount: amount(b.Amount), Used: amount(b.Used), Held: amount(b.Held),
		Available: amount(max(b.Available, 0)), ResetsAt: utc(b.ResetsAt),
	}
}

// limitsUsage is nil when nobody tells balances.
func (a *API) limitsUsage(ctx context.Context, scope string, id uuid.UUID, limits *project.Limits) ([]balanceView, error) {
	if a.balances == nil {
		return nil, nil
	}
	list, err := a.balances(ctx, scope, id, limits)
	if err != nil {
		return nil, err
	}
	views := make([]balanceView, 0, len(list))
	for i := range list {
		views = append(views, viewBalance(&list[i]))
	}
	return views, nil
}
