package storage

import (
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// TestEventLogOutage has the event log write to a server that is frozen, stopped and
// killed in turn: nobody waits for it, and every event is there in the end, once.
func TestEventLogOutage(t *testing.T) {
	t.Parallel()
	server := testdb.StartPostgres(t)
	db := openDB(t, server.Database())
	log, err := event.New(event.Config{Store: db, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Start(); err != nil {
		t.Fatal(err)
	}
	defer log.Close(t.Context())
	var sent []uuid.UUID
	send := func() {
		t.Helper()
		for i, e := range someEvents(t, 50) {
			sent = append(sent, e.ID)
			if i%10 > 0 {
				log.Append(e)
			} else if err := log.AppendDurable(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
	}
	send()
	for name, outage := range map[string]struct{ begin, end func() }{
		"frozen": {server.Pause, server.Resume}, "stopped": {server.Stop, server.Start}, "killed": {server.Kill, server.Start},
	} {
		outage.begin()
		before := log.Stats().Spilled
		send()
		if s := log.Stats(); s.Spilled == before {
			t.Errorf("%s: nothing was spilled: %+v", name, s)
		}
		outage.end()
		send()
	}
	eventually(t, "all events are in the database", func() bool {
		s := log.Stats()
		return s.Pending == 0 && s.SpillEvents == 0
	})
	list, err := db.ReadEvents(t.Context(), 0, 10*len(sent))
	if err != nil {
		t.Fatal(err)
	}
	there := map[uuid.UUID]int{}
	for _, e := range list {
		there[e.Event.ID]++
	}
	for _, id := range sent {
		if there[id] != 1 {
			t.Errorf("event %s is there %d times", id, there[id])
		}
	}
	if s := log.Stats(); len(list) != len(sent) || s.Dropped != 0 {
		t.Errorf("%d events of %d, %+v", len(list), len(sent), s)
	}
}
