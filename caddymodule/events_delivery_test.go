package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// record writes events to the log and returns their ids.
func record(t *testing.T, store *storage.DB, n int) []string {
	t.Helper()
	events, ids := make([]*event.Event, n), make([]string, n)
	for i := range events {
		events[i] = &event.Event{ID: uuid.Must(uuid.NewV7()), Time: time.Now(), Method: "POST", Endpoint: "/v1/chat/completions", Model: "m", Status: 200, Outcome: "ok"}
		ids[i] = events[i].ID.String()
	}
	if err := store.AppendEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	return ids
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// written are the ids in a file of events.
func written(t *testing.T, path string) (ids []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var e struct{ ID string }
		if json.Unmarshal(line, &e) == nil && e.ID != "" { // the last one may be half there
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// TestSinksAndReloads follows two sinks through reloads, one of which fails: each
// gets every event once, in order.
func TestSinksAndReloads(t *testing.T) {
	var mu sync.Mutex
	var posted []string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var batch []struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range batch {
			posted = append(posted, e.ID)
		}
	}))
	defer receiver.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "logs", "events.jsonl")
	app := func(extra object) object {
		a := sqliteApp(dir)
		sinks := object{
			"file": object{"from": "beginning", "batch": 5, "linger": 1, "sink": object{"type": "file", "path": path}},
			"hook": object{"from": "beginning", "batch": 5, "linger": 1, "sink": object{"type": "webhook", "url": receiver.URL}},
		}
		for name, sink := range extra {
			sinks[name] = sink
		}
		a["events"] = object{"sinks": sinks}
		return a
	}
	handler := object{"handler": "llm_proxy"}
	load(t, site(app(nil), handler))
	db := activeApp(t).runtime.db
	var want []string
	for round := range 4 {
		want = append(want, record(t, db.store.Load(), 50)...)
		db.sinks.Wake() // and while it delivers:
		if err := reload(site(app(nil), handler, object{"handler": "static_response", "body": strings.Repeat("x", round)})); err != nil {
			t.Fatal(err)
		}
		broken := site(app(nil), handler) // its sinks have begun, perhaps, when it fails
		broken["apps"].(object)["http"].(object)["servers"].(object)["srv"].(object)["listen"] = []string{"192.0.2.1:1"}
		if err := reload(broken); err == nil {
			t.Error("the broken configuration is taken")
		}
	}
	all := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(posted) >= len(want) && len(written(t, path)) >= len(want)
	}
	eventually(t, "all delivered", all)
	if got := db.sinks.Names(); !slices.Equal(got, []string{"file", "hook"}) {
		t.Errorf("sinks %v", got)
	}
	if err := reload(site(app(object{"more": object{"sink": object{"type": "file", "path": path + "2"}}}), handler)); err != nil {
		t.Fatal(err)
	}
	engine := db.sinks.engine.Load()
	eventually(t, "the new sink has its place", func() bool {
		list, err := engine.Snapshot(t.Context())
		return err == nil && len(list) == 3 && list[2].State == delivery.Idle
	})
	later := record(t, db.store.Load(), 7)
	want = append(want, later...)
	eventually(t, "the rest delivered", func() bool { return all() && len(written(t, path+"2")) == 7 })
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := written(t, path); !slices.Equal(got, want) {
		t.Errorf("the file has %d events, want %d in order", len(got), len(want))
	}
	if !slices.Equal(posted, want) {
		t.Errorf("the webhook got %d events, want %d in order", len(posted), len(want))
	}
	if got := written(t, path+"2"); !slices.Equal(got, later) {
		t.Errorf("the new sink has %v, want %v", got, later)
	}
}

// openStores opens one database as two nodes do.
func openStores(t *testing.T, driver, dsn string) (stores [2]*storage.DB) {
	t.Helper()
	for i := range stores {
		keys, err := secret.NewKeyring(bytes.Repeat([]byte{1}, secret.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		if stores[i], err = storage.New(storage.Config{Driver: driver, DSN: dsn, Keyring: keys}); err != nil {
			t.Fatal(err)
		}
		if err := stores[i].Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := stores[i].Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return stores
}

// taker is a sink that refuses what it is told to.
type taker struct {
	mu     sync.Mutex
	got    []string
	refuse string
}

func (k *taker) Deliver(_ context.Context, events []delivery.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range events {
		if e.ID.String() == k.refuse {
			return delivery.Permanent(errors.New("not this one"))
		}
	}
	for _, e := range events {
		k.got = append(k.got, e.ID.String())
	}
	return nil
}

func (k *taker) ids() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.got)
}

func (k *taker) refuses(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = id
}

// TestDeliveryOnDatabases: two nodes, a dead letter, its return, and a replay, on
// the real cursors.
func TestDeliveryOnDatabases(t *testing.T) {
	for driver, dsn := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "llm-proxy.db") },
		"postgres": func(t *testing.T) string { return testdb.Postgres(t) },
	} {
		t.Run(driver, func(t *testing.T) {
			stores, sinks := openStores(t, driver, dsn(t)), [2]*taker{new(taker), new(taker)}
			var engines [2]*delivery.Engine
			first := record(t, stores[0], 30)
			for i := range engines {
				sinks[i].refuses(first[11])
				engines[i] = delivery.New(delivery.Config{Store: stores[i], Leases: stores[i]})
				t.Cleanup(engines[i].Close)
				if _, err := engines[i].Attach([]delivery.Spec{{Name: "s", Sink: sinks[i], FromBeginning: true, Batch: 10, Linger: -1}}); err != nil {
					t.Fatal(err)
				}
			}
			status := func(i int) delivery.Status {
				list, err := engines[i].Snapshot(t.Context())
				if errors.Is(err, storage.ErrNotFound) { // it has no cursor yet
					return delivery.Status{Pending: -1}
				}
				if err != nil {
					t.Fatal(err)
				}
				return list[0]
			}
			eventually(t, "delivered", func() bool { s := status(0); return s.Pending == 0 && s.Dead == 1 })
			leader := 0
			eventually(t, "one stands by", func() bool {
				if status(0).State == delivery.Standby {
					leader = 1
				}
				return status(1-leader).State == delivery.Standby && status(leader).State == delivery.Idle
			})
			left := slices.Concat(first[:11], first[12:])
			if got := sinks[leader].ids(); !slices.Equal(got, left) || len(sinks[1-leader].ids()) != 0 {
				t.Errorf("delivered %d, want %d in order", len(got), len(left))
			}
			letters, err := stores[0].DeadLetters(t.Context(), "s", 0, 10)
			if err != nil || len(letters) != 1 || letters[0].Event.ID.String() != first[11] || letters[0].Reason != "not this one" {
				t.Fatalf("letters %+v, error %v", letters, err)
			}
			sinks[0].refuses("")
			sinks[1].refuses("")
			if n, err := engines[1-leader].Requeue(t.Context(), "s"); err != nil || n != 1 {
				t.Errorf("%d requeued, error %v", n, err)
			}
			eventually(t, "requeued", func() bool { return status(leader).Dead == 0 })
			engines[leader].Close() // the other one takes over
			second := record(t, stores[leader], 5)
			eventually(t, "takeover", func() bool { return len(sinks[1-leader].ids()) == 5 })
			if got := append(sinks[leader].ids(), sinks[1-leader].ids()...); !slices.Equal(got, slices.Concat(left, first[11:12], second)) {
				t.Errorf("delivered %v", got)
			}
			if err := engines[1-leader].Replay(t.Context(), "s", time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "replayed", func() bool { return len(sinks[1-leader].ids()) == 40 && status(1-leader).Pending == 0 })
			if got := sinks[1-leader].ids()[5:]; !slices.Equal(got, slices.Concat(first, second)) {
				t.Errorf("replayed %v", got)
			}
		})
	}
}
