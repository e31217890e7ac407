package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func TestAdminEvents(t *testing.T) {
	for driver, dsn := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "llm-proxy.db") },
		"postgres": func(t *testing.T) string { return testdb.Postgres(t) },
	} {
		t.Run(driver, func(t *testing.T) {
			ctx := t.Context()
			store := openStores(t, driver, dsn(t))[0]
			engine := delivery.New(delivery.Config{Store: store})
			t.Cleanup(engine.Close)
			sink := new(taker)
			opened, running := false, false
			a := &adminEvents{
				store: func() *storage.DB {
					if opened {
						return store
					}
					return nil
				},
				engine: func() *delivery.Engine {
					if running {
						return engine
					}
					return nil
				},
				stats: func() event.Stats { return event.Stats{Published: 7} },
			}
			recorded := 0
			note := func(tx *storage.Tx) error {
				recorded++
				return tx.Audit(ctx, audit.Entry{Actor: "a", Action: "b", Outcome: audit.OutcomeSuccess})
			}
			unrecorded := errors.New("no record")
			refuse := func(*storage.Tx) error { return unrecorded }

			// Before there is a database, and before there was a sink.
			lag, err := a.Lag(ctx)
			if !errors.Is(err, storage.ErrUnreachable) || lag.Log.Published != 7 {
				t.Errorf("lag %+v, error %v", lag, err)
			}
			_, err1 := a.CatchUp(ctx)
			_, err2 := a.Dead(ctx, "", 0, 1)
			_, err3 := a.Replay(ctx, "s", time.Now(), note)
			_, err4 := a.Requeue(ctx, "s", nil, note)
			for _, err := range []error{err1, err2, err3, err4} {
				if !errors.Is(err, storage.ErrUnreachable) {
					t.Errorf("without a database: %v", err)
				}
			}
			opened = true
			_, err3 = a.Replay(ctx, "s", time.Now(), note)
			_, err4 = a.Requeue(ctx, "s", nil, note)
			if !errors.Is(err3, storage.ErrNotFound) || !errors.Is(err4, storage.ErrNotFound) || len(a.Sinks()) != 0 {
				t.Errorf("without sinks: %v, %v", err3, err4)
			}
			if lag, err = a.Lag(ctx); err != nil || len(lag.Sinks) != 0 || lag.Stored.Last != 0 || lag.RollUp.Pending != 0 {
				t.Errorf("without sinks: lag %+v, error %v", lag, err)
			}

			running = true
			first := record(t, store, 2*rollUpBatch+5)
			sink.refuses(first[1])
			if complete, err := a.CatchUp(ctx); err != nil || !complete {
				t.Errorf("caught up %v, error %v", complete, err)
			}
			if rows, err := store.Usage(ctx, storage.UsageFilter{}); err != nil || rows[0].Requests != int64(len(first)) {
				t.Errorf("usage %+v, error %v", rows, err)
			}
			ended, end := context.WithCancel(ctx)
			end()
			if complete, err := a.CatchUp(ended); err == nil || complete {
				t.Errorf("caught up %v after its end, error %v", complete, err)
			}
			if _, err := engine.Attach([]delivery.Spec{{Name: "s", Sink: sink, FromBeginning: true, Batch: 500, Linger: -1}}); err != nil {
				t.Fatal(err)
			}
			if got := a.Sinks(); !slices.Equal(got, []string{"s"}) {
				t.Errorf("sinks %v", got)
			}
			status := func() delivery.Status {
				lag, err := a.Lag(ctx)
				if err != nil || len(lag.Sinks) != 1 || lag.Stored.Last-lag.Stored.First+1 < int64(len(first)) {
					t.Fatalf("lag %+v, error %v", lag, err)
				}
				return lag.Sinks[0]
			}
			eventually(t, "delivered", func() bool { s := status(); return s.Pending == 0 && s.Dead == 1 && s.State == delivery.Idle })

			letters, err := a.Dead(ctx, "s", 0, 10)
			if err != nil || len(letters) != 1 || letters[0].Event.ID.String() != first[1] {
				t.Fatalf("letters %+v, error %v", letters, err)
			}
			sink.refuses("")
			if _, err := a.Requeue(ctx, "s", nil, refuse); !errors.Is(err, unrecorded) || status().Dead != 1 {
				t.Errorf("requeued without a record: %v", err)
			}
			if _, err := a.Replay(ctx, "s", time.Now().Add(-time.Hour), refuse); !errors.Is(err, unrecorded) || status().Pending != 0 {
				t.Errorf("replayed without a record: %v", err)
			}
			if _, err := a.Replay(ctx, "s", time.Now().Add(time.Hour), note); !errors.Is(err, delivery.ErrNotBehind) || recorded != 0 {
				t.Errorf("replayed the future: %v, %d records", err, recorded)
			}
			if n, err := a.Requeue(ctx, "s", []int64{letters[0].ID}, note); err != nil || n != 1 || recorded == 0 {
				t.Errorf("%d requeued, error %v, %d records", n, err, recorded)
			}
			eventually(t, "requeued", func() bool { return status().Dead == 0 })
			before := recorded
			if n, err := a.Requeue(ctx, "s", nil, note); err != nil || n != 0 || recorded != before {
				t.Errorf("%d of none requeued, error %v, %d records", n, err, recorded-before)
			}
			if _, err := a.Replay(ctx, "s", time.Now().Add(-time.Hour), note); err != nil || recorded == before {
				t.Errorf("replay: %v, %d records", err, recorded-before)
			}
			eventually(t, "replayed", func() bool { return len(sink.ids()) == 2*len(first) && status().Pending == 0 })
		})
	}
}

// TestAdminEventsServed asks a running proxy.
func TestAdminEventsServed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	app := sqliteApp(dir)
	app["events"] = object{"sinks": object{"file": object{"from": "beginning", "linger": 1, "sink": object{"type": "file", "path": path}}}}
	load(t, site(app, object{"handler": "llm_proxy_admin"}))
	call := func(method, target, body string) (answer map[string]any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, baseURL(t)+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer management-token-of-the-test")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		defer http.DefaultClient.CloseIdleConnections()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || json.Unmarshal(text, &answer) != nil {
			t.Fatalf("%s %s: %d %s, %v", method, target, res.StatusCode, text, err)
		}
		return answer
	}
	db := activeApp(t).runtime.db
	ids := record(t, db.store.Load(), 3)
	db.sinks.Wake()
	eventually(t, "delivered", func() bool {
		sink := call("GET", "/manage/events/lag", "")["sinks"].([]any)[0].(map[string]any)
		return sink["name"] == "file" && sink["delivered"] == 3.0 && sink["pending"] == 0.0
	})
	if total := call("GET", "/manage/usage", "")["total"].(map[string]any); total["requests"] != 3.0 {
		t.Errorf("usage %v", total)
	}
	if one := call("GET", "/manage/requests/"+ids[1], ""); one["model"] != "m" {
		t.Errorf("request %v", one)
	}
	call("POST", "/manage/events/replay", `{"sink":"file","from":"2020-01-01"}`)
	eventually(t, "replayed", func() bool { return slices.Equal(written(t, path), slices.Concat(ids, ids)) })
}
