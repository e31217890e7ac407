package event

import (
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"pgregory.net/rapid"
)

var anyAlert = rapid.Custom(func(t *rapid.T) *Event {
	id := func(name string) (id uuid.UUID) {
		if rapid.Bool().Draw(t, name+" given") {
			copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name))
		}
		return id
	}
	at := rapid.Custom(func(t *rapid.T) time.Time {
		return time.UnixMicro(rapid.Int64Range(0, 253402300799e6).Draw(t, "micros")).UTC()
	})
	a := Alert{
		Scope: rapid.SampledFrom([]string{ScopeToken, ScopeProject}).Draw(t, "scope"),
		Limit: rapid.SampledFrom([]string{LimitRequests, LimitBudget}).Draw(t, "limit"), Percent: rapid.Int().Draw(t, "percent"),
		Amount: rapid.Int64().Draw(t, "amount"), Used: rapid.Int64().Draw(t, "used"), Held: rapid.Int64().Draw(t, "held"),
		Available: rapid.Int64().Draw(t, "available"), Period: rapid.String().Draw(t, "period"),
	}
	if rapid.Bool().Draw(t, "resets") {
		a.ResetsAt = at.Draw(t, "resets at")
	}
	return NewAlert(at.Draw(t, "time"), id("project"), id("token"), a)
})

func TestAlertRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyAlert.Draw(t, "alert")
		text := e.AppendJSON([]byte("before"))
		got, err := Decode(text[len("before"):])
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("got %+v %+v\nwant %+v %+v\n%s", got, got.Alert, e, e.Alert, text)
		}
	})
}

// budgetAlert is the alert that the documentation shows.
func budgetAlert() *Event {
	e := NewAlert(time.UnixMicro(1750000000000001), uuid.FromStringOrNil("01890000-0000-7000-8000-00000000000a"), uuid.FromStringOrNil("01890000-0000-7000-8000-00000000000b"), Alert{
		Scope: ScopeToken, Limit: LimitBudget, Percent: 80, Amount: 10e9, Used: 8_030_000_000, Held: 500_000_000, Available: 1_470_000_000,
		ResetsAt: time.Date(2025, 7, 1, 2, 0, 0, 0, time.FixedZone("", 7200)), Period: "month",
	})
	e.ID = uuid.FromStringOrNil("01890000-0000-7000-8000-000000000001")
	return e
}

func requestsAlert() *Event {
	e := NewAlert(time.UnixMicro(1750000000000001), uuid.FromStringOrNil("01890000-0000-7000-8000-00000000000a"), uuid.Nil, Alert{
		Scope: ScopeProject, Limit: LimitRequests, Percent: 100, Amount: 1000, Used: 1000, Period: "total",
	})
	e.ID = uuid.FromStringOrNil("01890000-0000-7000-8000-000000000002")
	return e
}

func TestAlertJSON(t *testing.T) {
	for _, c := range []struct {
		e          *Event
		json, text string
	}{
		{
			budgetAlert(),
			`{"type":"alert","id":"01890000-0000-7000-8000-000000000001","time":"2025-06-15T15:06:40.000001Z","project_id":"01890000-0000-7000-8000-00000000000a",` +
				`"token_id":"01890000-0000-7000-8000-00000000000b","alert":{"scope":"token","limit":"budget_usd","percent":80,"limit_amount":"10","used":"8.03","held":"0.5",` +
				`"available":"1.47","period":"month","resets_at":"2025-07-01T00:00:00.000000Z"}}`,
			"80 % of the token's budget_usd used: 8.03 of 10, 0.5 held, 1.47 left, until 2025-07-01T00:00:00Z",
		},
		{
			requestsAlert(),
			`{"type":"alert","id":"01890000-0000-7000-8000-000000000002","time":"2025-06-15T15:06:40.000001Z","project_id":"01890000-0000-7000-8000-00000000000a",` +
				`"alert":{"scope":"project","limit":"max_requests","percent":100,"limit_amount":1000,"used":1000,"held":0,"available":0,"period":"total","resets_at":null}}`,
			"100 % of the project's max_requests used: 1000 of 1000, 0 held, 0 left",
		},
	} {
		if got := string(c.e.AppendJSON(nil)); got != c.json {
			t.Errorf("got  %s\nwant %s", got, c.json)
		}
		if got := c.e.Alert.String(); got != c.text {
			t.Errorf("got %s", got)
		}
	}
}

// TestAlertOfExhaustion: all of it is used up, though not all of it was spent.
func TestAlertOfExhaustion(t *testing.T) {
	e := budgetAlert()
	e.Alert.Percent = 100
	want := "what is left of the token's budget_usd is not enough for a request: 8.03 of 10 used, 0.5 held, 1.47 left, until 2025-07-01T00:00:00Z"
	if got := e.Alert.String(); got != want {
		t.Errorf("got %s", got)
	}
}

// TestAlertDocumented: the alert that the documentation shows is one.
func TestAlertDocumented(t *testing.T) {
	docs, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(docs), "```json\n{\"type\":\"alert\"")
	shown, _, _ := strings.Cut(rest, "```")
	e, err := Decode([]byte(`{"type":"alert"` + shown))
	if err != nil {
		t.Fatal(err)
	}
	if compact := strings.Join(strings.Fields(`{"type":"alert"`+shown), ""); string(e.AppendJSON(nil)) != compact {
		t.Errorf("shown  %s\nwritten %s", compact, e.AppendJSON(nil))
	}
}

// TestNewAlert: ids sort as those of requests do, and nothing of a pooled event stays.
func TestNewAlert(t *testing.T) {
	at := time.Now()
	used := newEvent()
	used.Release()
	e := NewAlert(at, uuid.Nil, uuid.Nil, Alert{Scope: ScopeProject, Limit: LimitBudget})
	if ms, err := uuid.TimestampFromV7(e.ID); err != nil || e.ID.Version() != 7 {
		t.Errorf("id %s, error %v", e.ID, err)
	} else if made, err := ms.Time(); err != nil || made.UnixMilli() != at.UnixMilli() {
		t.Errorf("made at %v, want %v, error %v", made, at, err)
	}
	if want := (Event{ID: e.ID, Time: moment(at), Alert: &Alert{Scope: ScopeProject, Limit: LimitBudget}}); !reflect.DeepEqual(*e, want) {
		t.Errorf("made %+v", e)
	}
}

func TestDecodeAlert(t *testing.T) {
	const head = `{"type":"alert","id":"01890000-0000-7000-8000-000000000001","alert":`
	const amounts = `"limit_amount":"1","used":"1","held":"0","available":"0"`
	for _, text := range []string{
		head + `null}`, head + `{}}`, head + `[]}`, `{"type":"alert","id":"01890000-0000-7000-8000-000000000001"}`, `{"type":"alert","alert":{"scope":"token","limit":"budget_usd",` + amounts + `}}`,
		head + `{"limit":"budget_usd",` + amounts + `}}`, head + `{"scope":"token",` + amounts + `}}`,
		head + `{"scope":"token","limit":"budget_usd"}}`, head + `{"scope":"token","limit":"max_requests",` + amounts + `}}`,
		head + `{"scope":"token","limit":"budget_usd","limit_amount":1,"used":"1","held":"0","available":"0"}}`,
		head + `{"scope":"token","limit":"budget_usd","limit_amount":"","used":"1","held":"0","available":"0"}}`,
		head + `{"scope":"token","limit":"budget_usd","limit_amount":"--1","used":"1","held":"0","available":"0"}}`,
		head + `{"scope":"token","limit":"budget_usd","limit_amount":"9223372036.854775808","used":"1","held":"0","available":"0"}}`,
		head + `{"scope":"token","limit":"budget_usd","limit_amount":"-9223372036.854775809","used":"1","held":"0","available":"0"}}`,
		head + `{"scope":"token","limit":"budget_usd","percent":"80",` + amounts + `}}`, head + `{"scope":"token","limit":"budget_usd","resets_at":"soon",` + amounts + `}}`,
		`{"id":"01890000-0000-7000-8000-000000000001","alert":{"scope":"token","limit":"budget_usd",` + amounts + `}}`, // a request with an alert
		`{"id":"01890000-0000-7000-8000-000000000001","type":"request"}`, `{"id":"01890000-0000-7000-8000-000000000001","type":"audit"}`,
	} {
		if e, err := Decode([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "decoding an ") {
			t.Errorf("%s: decoded as %+v, %v", text, e, err)
		}
	}
	// What a newer version adds is kept, or ignored.
	e, err := Decode([]byte(head + `{"scope":"end_user","limit":"daily_usd","percent":5,"limit_amount":"-9223372036.854775808","used":"1e1","held":"0","available":"0.000000001","x":1},"model":"m","status":200}`))
	want := Event{ID: uuid.FromStringOrNil("01890000-0000-7000-8000-000000000001"), Alert: &Alert{Scope: "end_user", Limit: "daily_usd", Percent: 5, Amount: math.MinInt64, Used: 10e9, Available: 1}}
	if err != nil || !reflect.DeepEqual(*e, want) {
		t.Errorf("decoded %+v, %v", e, err)
	}
}

// TestAlertsInTheLog: alerts keep their place among requests, and come out as they went
// in, whether the store takes them or the disk has to first.
func TestAlertsInTheLog(t *testing.T) {
	for name, away := range map[string]bool{"store": false, "disk": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{Dir: t.TempDir(), Interval: time.Millisecond, Patience: time.Minute})
			if away {
				r.store.fail(errAway)
			}
			want := map[uuid.UUID]Event{}
			for i := range 30 {
				r.add(1)
				e := budgetAlert()
				if i%2 > 0 {
					e = requestsAlert()
				}
				e.ID = uuid.Must(uuid.NewV7())
				r.sent, want[e.ID] = append(r.sent, e.ID), *e
				r.Append(e)
			}
			if away {
				eventually(t, "they are on disk", func() bool { s := r.Stats(); return s.Spilled == 60 && s.Pending == 0 })
				r.store.fail(nil)
			}
			eventually(t, "the store has them", func() bool { return r.Stats().Committed == 60 })
			r.complete()
			if !slices.Equal(r.store.ids(), r.sent) {
				t.Error("the order is another one")
			}
			for id, e := range want {
				if got := r.store.kept[id]; !reflect.DeepEqual(got, e) {
					t.Errorf("got %+v\nwant %+v", got, e)
				}
			}
		})
	}
}
