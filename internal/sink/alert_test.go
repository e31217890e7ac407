package sink_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// told compares what a receiver has read with the events that it was sent, and says
// which of them call themselves alerts.
func told(t *testing.T, got []json.RawMessage, events []delivery.Event) (alerts []int) {
	t.Helper()
	if len(got) != len(events) {
		t.Fatalf("%d events, want %d", len(got), len(events))
	}
	for i, text := range got {
		e, err := event.Decode(text)
		if err != nil || !reflect.DeepEqual(e.Alert, events[i].Alert) || e.ID != events[i].ID {
			t.Errorf("event %d is %s, error %v", i, text, err)
		}
		var kind struct{ Type string }
		if err := json.Unmarshal(text, &kind); err != nil {
			t.Fatal(err)
		}
		if kind.Type == "alert" {
			alerts = append(alerts, i)
		} else if kind.Type != "" {
			t.Errorf("event %d is of the type %s", i, kind.Type)
		}
	}
	return alerts
}

func TestFileAlerts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	events := amongRequests()
	if err := file(t, sink.FileConfig{Path: path}).Deliver(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []json.RawMessage
	for line := range bytes.Lines(data) {
		lines = append(lines, json.RawMessage(line))
	}
	if got := told(t, lines, events); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("alerts at %v", got)
	}
}

func TestWebhookAlerts(t *testing.T) {
	r := receive(t, nil)
	events := amongRequests()
	if err := webhook(t, r.URL, whsec).Deliver(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	var got []json.RawMessage
	if err := json.Unmarshal(r.bodies[0], &got); err != nil || len(r.bodies) != 1 {
		t.Fatalf("%d bodies, error %v", len(r.bodies), err)
	}
	if got := told(t, got, events); !slices.Equal(got, []int{1, 3}) || !verify(t, r.headers[0], r.bodies[0], whsec) {
		t.Errorf("alerts at %v", got)
	}
}

// TestRedisStreamAlerts: what the predecessor's consumers have no form for neither comes
// to them nor holds up what they have one for.
func TestRedisStreamAlerts(t *testing.T) {
	url := testdb.Redis(t)
	s := stream(t, url, 0)
	events := amongRequests()
	for _, batch := range [][]delivery.Event{events, events[1:2], events[4:]} {
		if err := s.Deliver(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := client(t, url).XRange(t.Context(), "llm-proxy-events", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range entries {
		var p struct{ RunID string }
		if err := json.Unmarshal([]byte(e.Values["data"].(string)), &p); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.RunID)
	}
	if want := []string{events[0].ID.String(), events[2].ID.String(), events[4].ID.String(), events[4].ID.String()}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
}

// otlpCollector answers by path, and keeps the paths.
func otlpCollector(t *testing.T, answer map[string]func(w http.ResponseWriter)) (r *receiver, paths *[]string) {
	paths = new([]string)
	return receive(t, func(w http.ResponseWriter, req *http.Request) {
		*paths = append(*paths, req.URL.RequestURI())
		if f := answer[req.URL.Path]; f != nil {
			f(w)
		}
	}), paths
}

// exportedLogs decodes what a collector got.
func exportedLogs(t *testing.T, body []byte) (records []*logs.LogRecord, resource map[string]any) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	message, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var request collector.ExportLogsServiceRequest
	if err := proto.Unmarshal(message, &request); err != nil {
		t.Fatal(err)
	}
	for _, r := range request.ResourceLogs {
		resource = values(t, r.Resource.Attributes)
		for _, s := range r.ScopeLogs {
			records = append(records, s.LogRecords...)
		}
	}
	return records, resource
}

func TestOTLPAlerts(t *testing.T) {
	r, paths := otlpCollector(t, nil)
	events := amongRequests()
	o := otlp(t, r.URL+"/base?key=x", false)
	for _, batch := range [][]delivery.Event{events, events[1:2], events[:1]} {
		if err := o.Deliver(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"/base/v1/logs?key=x", "/base/v1/traces?key=x", "/base/v1/logs?key=x", "/base/v1/traces?key=x"}; !slices.Equal(*paths, want) {
		t.Fatalf("called %v, want %v", *paths, want)
	}
	spans, _ := exported(t, r.bodies[1])
	if len(spans) != 3 || !bytes.Equal(spans[1].TraceId, events[2].ID[:]) || r.headers[0].Get("X-Api-Key") != "key-of-the-test" {
		t.Errorf("spans %v", spans)
	}
	records, resource := exportedLogs(t, r.bodies[0])
	if len(records) != 2 || resource["service.name"] != "caddy-llm-proxy" {
		t.Fatalf("records %v of %v", records, resource)
	}
	budget, quota := records[0], records[1]
	if budget.EventName != "llm_proxy.alert" || budget.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_WARN || budget.SeverityText != "WARN" ||
		budget.TimeUnixNano != uint64(events[1].Time.UnixNano()) || budget.Body.GetStringValue() != events[1].Alert.String() {
		t.Errorf("record %v", budget)
	}
	for i, want := range []map[string]any{
		{
			"llm_proxy.event.id": events[1].ID.String(), "llm_proxy.project.id": events[1].ProjectID.String(), "llm_proxy.token.id": events[1].TokenID.String(),
			"llm_proxy.alert.scope": "token", "llm_proxy.alert.limit": "budget_usd", "llm_proxy.alert.percent": int64(80), "llm_proxy.alert.limit_amount": 10.0,
			"llm_proxy.alert.used": 8.03, "llm_proxy.alert.held": 0.5, "llm_proxy.alert.available": 1.47, "llm_proxy.alert.period": "month",
			"llm_proxy.alert.resets_at": "2026-04-01T00:00:00Z",
		},
		{
			"llm_proxy.event.id": events[3].ID.String(), "llm_proxy.project.id": events[3].ProjectID.String(),
			"llm_proxy.alert.scope": "project", "llm_proxy.alert.limit": "max_requests", "llm_proxy.alert.percent": int64(100), "llm_proxy.alert.limit_amount": int64(7),
			"llm_proxy.alert.used": int64(7), "llm_proxy.alert.held": int64(0), "llm_proxy.alert.available": int64(0), "llm_proxy.alert.period": "total",
		},
	} {
		if got := values(t, []*logs.LogRecord{budget, quota}[i].Attributes); !reflect.DeepEqual(got, want) {
			t.Errorf("attributes %v, want %v", got, want)
		}
	}
}

// TestOTLPLogsAddress: logs are beside traces, wherever those are.
func TestOTLPLogsAddress(t *testing.T) {
	r, paths := otlpCollector(t, nil)
	for _, endpoint := range []string{"", "/", "/v1/traces", "/a%2Fb/v1/traces?k"} {
		if err := otlp(t, r.URL+endpoint, false).Deliver(t.Context(), []delivery.Event{alert(), sample()}); err != nil {
			t.Fatal(err)
		}
	}
	if want := "/v1/logs /v1/traces /v1/logs /v1/traces /v1/logs /v1/traces /a%2Fb/v1/logs?k /a%2Fb/v1/traces?k"; strings.Join(*paths, " ") != want {
		t.Errorf("called %v, want %s", *paths, want)
	}
}

// TestOTLPAlertsRefused: what a collector does not want of alerts holds no spans up, and
// what it cannot take now comes again.
func TestOTLPAlertsRefused(t *testing.T) {
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	partial := func(refused int64) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			answer, err := proto.Marshal(&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: refused, ErrorMessage: "no"}})
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(answer)
		}
	}
	for name, c := range map[string]struct {
		logs, traces func(http.ResponseWriter)
		want         string
		calls        int
	}{
		"no logs": {status(404), nil, "rejected 2", 2}, "no such method": {status(405), nil, "rejected 2", 2}, "not implemented": {status(501), nil, "rejected 2", 2},
		"bad": {status(400), nil, "rejected 2", 2}, "away": {status(503), nil, "again", 1}, "unauthorised": {status(401), nil, "again", 1},
		"all": {partial(2), nil, "rejected 2", 2}, "some": {partial(1), nil, "taken", 2}, "none": {partial(0), nil, "taken", 2},
		"garbage": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "OK, whatever") }, nil, "taken", 2},
		"neither": {status(404), status(404), "again", 2}, "bad spans": {nil, status(400), "permanent", 2},
	} {
		t.Run(name, func(t *testing.T) {
			r, paths := otlpCollector(t, map[string]func(http.ResponseWriter){"/v1/logs": c.logs, "/v1/traces": c.traces})
			err := otlp(t, r.URL, false).Deliver(t.Context(), amongRequests())
			if got := verdict(err); got != c.want || len(*paths) != c.calls {
				t.Errorf("%s: %v after %v", got, err, *paths)
			}
			var some *delivery.RejectedError
			if errors.As(err, &some) && (some.Events[1] == nil || some.Events[3] == nil) {
				t.Errorf("refused %v", some.Events)
			}
		})
	}
}
