package e2e

import (
	"maps"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// outages are ways in which a database goes away and comes back.
var outages = map[string]struct{ begin, end func(*testdb.PostgresServer) }{
	"killed": {(*testdb.PostgresServer).Kill, (*testdb.PostgresServer).Start},
	"paused": {(*testdb.PostgresServer).Pause, (*testdb.PostgresServer).Resume},
}

// logStats is what GET /manage/events/lag says of the log.
type logStats struct{ published, committed, spilled, dropped, pending, spillEvents int64 }

// logStats needs no database.
func (p *proxy) logStats(t *testing.T) logStats {
	t.Helper()
	log := p.manage(t, "GET", "events/lag", nil)["log"].(object)
	n := func(name string) int64 { return int64(log[name].(float64)) }
	return logStats{n("published"), n("committed"), n("spilled"), n("dropped"), n("pending"), n("spill_events")}
}

// spillFiles are the files of events that wait for the database.
func (p *proxy) spillFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.storage, "llm_proxy", "events", "*", "*.spill"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// hasBooked waits until every request in ended has its event, no request has two,
// and the sums say the same. It returns the events by request.
func (a *account) hasBooked(t *testing.T, ended map[string]time.Time) map[string]logged {
	t.Helper()
	events := make(map[string]logged)
	eventually(t, "every request is in the log", func() bool {
		clear(events)
		for _, ev := range a.p.requests(t, "token_id="+a.tokenID) {
			if _, twice := events[ev.RequestID]; twice {
				t.Fatalf("%s is there twice", ev.RequestID)
			}
			events[ev.RequestID] = ev
		}
		for id := range ended {
			if _, ok := events[id]; !ok {
				return false
			}
		}
		return true
	})
	var in, out int64
	for _, ev := range events {
		i, o := ev.tokens()
		in, out = in+i, out+o
	}
	if requests, sumIn, sumOut, cost := a.usageTotal(t); requests != int64(len(events)) || sumIn != in || sumOut != out || cost.Cmp(big.NewRat(costOf(in, out), 1e9)) != 0 {
		t.Errorf("sums: %d requests, %d in, %d out, %s USD; events: %d, %d, %d", requests, sumIn, sumOut, cost.FloatString(9), len(events), in, out)
	}
	return events
}

// TestEventsWhileDatabaseIsAway takes the database away during traffic: once for a
// while, and once until the process is killed as well.
func TestEventsWhileDatabaseIsAway(t *testing.T) {
	t.Parallel()
	for name, outage := range outages {
		for _, durability := range []string{"async", "before_response"} {
			t.Run(name+"/"+durability, func(t *testing.T) {
				t.Parallel()
				server := testdb.StartPostgres(t)
				s := priced(t, against(newProvider(t, simulator.Options{Chunks: 3})))
				s.postgres = true
				s.app += "\t\tevents {\n\t\t\tdurability " + durability + "\n\t\t}\n"
				p := prepare(t)
				p.env = []string{"DATABASE_URL=" + server.Database(), "LLM_PROXY_KEY=" + secret.NewKey()} // for both processes
				p.write(s)
				p.run()
				p.await()
				a := p.account(t)

				const n, rate = 240, 100
				traffic := a.traffic(t, n, rate)
				receive(t, "a quarter of the answers", traffic.quarter)
				outage.begin(server)
				receive(t, "three quarters of the answers", traffic.threeQuarters)
				if away := p.logStats(t); away.spilled == 0 || away.spillEvents == 0 || len(p.spillFiles(t)) == 0 {
					t.Errorf("while the database is away nothing waits on disk: %+v", away)
				}
				outage.end(server)
				served := (<-traffic.done).ended
				if len(served) != n {
					t.Errorf("%d of %d requests were served", len(served), n)
				}
				if events := a.hasBooked(t, served); len(events) != n {
					t.Errorf("%d events of %d requests", len(events), n)
				}
				eventually(t, "nothing waits on disk", func() bool { return p.logStats(t).spillEvents == 0 && len(p.spillFiles(t)) == 0 })
				if stats := p.logStats(t); stats.dropped != 0 || stats.published < n {
					t.Errorf("%+v", stats)
				}

				traffic = a.traffic(t, n, rate)
				receive(t, "a quarter of the answers", traffic.quarter)
				outage.begin(server)
				receive(t, "three quarters of the answers", traffic.threeQuarters)
				killed := time.Now()
				p.kill()
				later := (<-traffic.done).ended
				left := len(p.spillFiles(t))
				if left == 0 {
					t.Error("the process left no events on disk")
				}
				outage.end(server)
				p.again()
				if durability == "async" {
					// What ended just before may be in memory only. It is not long, but
					// the machine may be busy.
					maps.DeleteFunc(later, func(_ string, ended time.Time) bool { return killed.Sub(ended) < time.Second })
				}
				if len(later) == 0 {
					t.Error("no request ended long enough before the process was killed")
				}
				maps.Copy(later, served)
				eventually(t, "the files are taken over", func() bool { return len(p.spillFiles(t)) == 0 })
				events := a.hasBooked(t, later)
				t.Logf("%d events, of %d requests that must have one; %d files were left", len(events), len(later), left)
			})
		}
	}
}

// traffic is a [proxy.chatter] under way.
type traffic struct {
	quarter, threeQuarters chan struct{}
	done                   chan *completed
}

func (a *account) traffic(t *testing.T, n, rate int) traffic {
	tr := traffic{make(chan struct{}), make(chan struct{}), make(chan *completed, 1)}
	marks := map[int]chan struct{}{n / 4: tr.quarter, 3 * n / 4: tr.threeQuarters}
	go func() {
		tr.done <- a.p.chatter(t, a.token, chatBody("gpt-4o", true), n, rate, func(answers int) {
			if reached := marks[answers]; reached != nil {
				close(reached)
			}
		})
	}()
	return tr
}
