package storage

import (
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// TestAlertTerms: what requests are searched by has no alerts, nor have the sums.
func TestAlertTerms(t *testing.T) { onBoth(t, testAlertTerms) }

func testAlertTerms(t *testing.T, dsn string) {
	db := openDB(t, dsn)
	request := someEvents(t, 1)[0]
	alert := event.NewAlert(time.Now(), request.ProjectID, uuid.Must(uuid.NewV7()), event.Alert{Scope: event.ScopeToken, Limit: event.LimitBudget, Percent: 50})
	if err := db.AppendEvents(t.Context(), []*event.Event{request, alert}); err != nil {
		t.Fatal(err)
	}
	if n, err := db.RollUp(t.Context(), 100); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	for query, want := range map[string]int{
		`SELECT COUNT(*) FROM event_terms`: 3, `SELECT COUNT(DISTINCT id) FROM event_terms`: 1, `SELECT COUNT(*) FROM usage_hourly`: 1,
	} {
		var n int
		if err := db.conns.Load().read.QueryRowContext(t.Context(), query).Scan(&n); err != nil || n != want {
			t.Errorf("%s: %d, want %d, error %v", query, n, want, err)
		}
	}
}
