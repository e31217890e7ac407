package caddymodule

import (
	"context"
	"errors"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// startLedger needs d.mu.
func (d *database) startLedger(store *storage.DB) error {
	l, err := ledger.New(ledger.Config{Store: store, Logger: d.logger, OnThreshold: d.alert})
	if err != nil {
		return err
	}
	l.Start()
	d.ledger.Store(l)
	return nil
}

// projectWithin is how long an alert waits to learn of its token's project.
const projectWithin = 2 * time.Second

// alert records that so many percent of a quota or budget are used.
func (d *database) alert(a ledger.Account, percent int, b ledger.Balance) {
	alert := event.Alert{
		Scope: event.ScopeToken, Limit: event.LimitRequests, Percent: percent, Amount: b.Limit, Used: b.Used, Held: b.Held,
		Available: b.Available, ResetsAt: b.ResetsAt, Period: string(a.Period),
	}
	projectID, tokenID := uuid.Nil, a.ID
	if a.Scope == ledger.Project {
		alert.Scope, projectID, tokenID = event.ScopeProject, a.ID, uuid.Nil
	} else if store := d.store.Load(); store != nil {
		// The last alerts come when the database is being closed.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), projectWithin)
		if t, err := store.Token(ctx, a.ID); err == nil { // else it is an alert of a token, all the same
			projectID = t.ProjectID
		}
		cancel()
	}
	if a.Unit == ledger.Money {
		alert.Limit = event.LimitBudget
	}
	e := event.NewAlert(time.Now(), projectID, tokenID, alert)
	d.logger.Warn("a limit is being used up", "alert", alert.String(), "project_id", projectID, "token_id", tokenID)
	d.Append(e)
}

// stopLedger returns what this process has leased.
func (d *database) stopLedger() {
	l := d.ledger.Load()
	if l == nil {
		return
	}
	if err := l.Close(context.Background()); err != nil {
		d.logger.Error("closing the ledger", "error", err)
	}
}

var errLedgerNotOpen = errors.New("the database is not open")

// Hold implements [gateway.Ledger].
func (d *database) Hold(ctx context.Context, demands []ledger.Demand, t *ledger.Ticket) (ledger.Refusal, error) {
	l := d.ledger.Load()
	if l == nil {
		return ledger.Refusal{}, errLedgerNotOpen
	}
	return l.Hold(ctx, demands, t)
}

// Balances implements [gateway.Ledger].
func (d *database) Balances(ctx context.Context, limits []ledger.Limit) ([]ledger.Balance, error) {
	l := d.ledger.Load()
	if l == nil {
		return nil, errLedgerNotOpen
	}
	return l.Balances(ctx, limits)
}

// balances tells the management API how quotas and budgets stand.
func (d *database) balances(ctx context.Context, scope string, id uuid.UUID, limits *project.Limits) ([]adminapi.Balance, error) {
	of := ledger.Token
	if scope == adminapi.ScopeProject {
		of = ledger.Project
	}
	found, err := d.Balances(ctx, ledger.Limits(nil, of, id, 0, limits))
	if err != nil {
		if errors.Is(err, ledger.ErrUnavailable) {
			err = errors.Join(storage.ErrUnreachable, err)
		}
		return nil, err
	}
	list := make([]adminapi.Balance, len(found))
	for i := range found {
		b := &found[i]
		list[i] = adminapi.Balance{Limit: "max_requests", Amount: b.Limit, Used: b.Used, Held: b.Held, Available: b.Available}
		if b.Unit == ledger.Money {
			list[i].Limit = "budget_usd"
		}
		if !b.ResetsAt.IsZero() {
			list[i].ResetsAt = &b.ResetsAt
		}
	}
	return list, nil
}
