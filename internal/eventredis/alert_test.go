package eventredis_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// TestAlerts: what Redis takes of alerts comes into the database in its place, whole, and
// is no request there.
func TestAlerts(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	n := start(t, testdb.Redis(t), db, func(c *eventredis.Config) { c.Leases = db })
	waitFor(t, "Redis is used", n.used)
	var m made
	var events []*event.Event
	for i := range 20 {
		request := m.some(1)[0]
		request.Time = request.Time.UTC().Truncate(time.Microsecond)
		alert := event.NewAlert(time.Now(), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7()), event.Alert{
			Scope: event.ScopeToken, Limit: event.LimitBudget, Percent: 50, Amount: 1e9, Used: 1e9/2 + int64(i), ResetsAt: time.Now().Add(time.Hour), Period: "day",
		})
		events = append(events, request, alert)
	}
	if err := n.AppendEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "they are in the database", func() bool { return len(kept(t, db)) == len(events) })
	entries, err := db.ReadEvents(t.Context(), 0, 100)
	if err != nil || len(entries) != len(events) {
		t.Fatalf("%d events, error %v", len(entries), err)
	}
	for i, e := range entries {
		if !reflect.DeepEqual(e.Event, *events[i]) {
			t.Errorf("event %d is %+v, want %+v", i, e.Event, *events[i])
		}
	}
	if requests, cost := sums(t, db); requests != 20 || cost != 140 {
		t.Errorf("the sums are %d requests and %d", requests, cost)
	}
	waitFor(t, "they are counted", func() bool { s := n.Stats(); return s.Moved == int64(len(events)) && s.Damaged == 0 })
}
