package delivery_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// TestAlerts: sinks get alerts in their place among requests, and one that wants none
// holds up neither itself nor another.
func TestAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(40)
		var alerts []int
		for i := 0; i < 40; i += 7 {
			alerts = append(alerts, i)
			m.log[i].Event = *event.NewAlert(m.log[i].Event.Time, m.log[i].Event.ID, m.log[i].Event.ID, event.Alert{
				Scope: event.ScopeToken, Limit: event.LimitBudget, Percent: 80, Amount: int64(i),
			})
		}
		all, picky, seen := new(recorder), new(recorder), map[int64]bool{}
		all.answer = func(_ context.Context, _ int, events []delivery.Event) error {
			for _, e := range events {
				if e.Alert != nil {
					seen[e.Alert.Amount] = true
				}
			}
			return nil
		}
		picky.answer = func(_ context.Context, _ int, events []delivery.Event) error {
			for _, e := range events {
				if e.Alert != nil {
					return delivery.Permanent(errors.New("no request"))
				}
			}
			return nil
		}
		e := start(t, m, delivery.Spec{Name: "all", Sink: all, Batch: 6}, delivery.Spec{Name: "picky", Sink: picky, Batch: 6})
		await(t, "all delivered", func() bool {
			return status(t, e, "all").Pending == 0 && status(t, e, "picky").Pending == 0
		})
		requests, dead := without(m.ids(), alerts...)
		same(t, "all", all.ids(), m.ids())
		same(t, "picky", picky.ids(), requests)
		same(t, "dead", m.deadIDs(t, "picky"), dead)
		for i, d := range m.dead {
			if a := d.Event.Alert; a == nil || a.Amount != int64(alerts[i]) || !seen[a.Amount] {
				t.Errorf("dead letter %d is %+v", i, d.Event)
			}
		}
	})
}
