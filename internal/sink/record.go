package sink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// alertEvent is the event name of an alert's log record.
const alertEvent = "llm_proxy.alert"

// deliverAlerts exports alerts as log records. Those that the collector refuses are
// noted in refused, by their places in the batch. An error means that all is to be
// tried again.
//
// A collector of traces alone has nothing at the address of logs. It must not keep
// spans from being delivered for that, as an address that is wrong does.
func (o *OTLP) deliverAlerts(ctx context.Context, events []delivery.Event, refused map[int]error) error {
	var places []int
	var records []*logs.LogRecord
	for i := range events {
		if events[i].Alert != nil {
			places, records = append(places, i), append(records, record(&events[i]))
		}
	}
	if len(records) == 0 {
		return nil
	}
	answer, err := o.export(ctx, o.logs, &collector.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		Resource:  o.origin,
		ScopeLogs: []*logs.ScopeLogs{{Scope: o.scope, LogRecords: records}},
	}}})
	var permanent *delivery.PermanentError
	var status *statusError
	switch {
	case errors.As(err, &permanent):
	case errors.As(err, &status) && (status.code == http.StatusNotFound || status.code == http.StatusMethodNotAllowed || status.code == http.StatusNotImplemented):
		err = fmt.Errorf("the collector takes no logs: %w", err)
	case err != nil:
		return fmt.Errorf("exporting alerts as logs: %w", err)
	default:
		var response collector.ExportLogsServiceResponse
		if proto.Unmarshal(answer, &response) != nil {
			return nil // a 2xx, whatever it says
		}
		p := response.GetPartialSuccess()
		err = o.partial("log records", p.GetRejectedLogRecords(), len(records), p.GetErrorMessage())
	}
	if err != nil {
		for _, i := range places {
			refused[i] = err
		}
	}
	return nil
}

// record makes a log record of an alert. It has the id of the event, so that a receiver
// knows one that it has had.
func record(e *delivery.Event) *logs.LogRecord {
	alert := e.Alert
	var a attributes
	a.text("llm_proxy.event.id", e.ID.String())
	a.id("llm_proxy.project.id", e.ProjectID)
	a.id("llm_proxy.token.id", e.TokenID)
	a.text("llm_proxy.alert.scope", alert.Scope)
	a.text("llm_proxy.alert.limit", alert.Limit)
	a.count("llm_proxy.alert.percent", event.Known(int64(alert.Percent)))
	for _, amount := range []struct {
		name string
		n    int64
	}{{"limit_amount", alert.Amount}, {"used", alert.Used}, {"held", alert.Held}, {"available", alert.Available}} {
		if name := "llm_proxy.alert." + amount.name; alert.Money() {
			a.number(name, float64(amount.n)/1e9)
		} else {
			a.count(name, event.Known(amount.n))
		}
	}
	a.text("llm_proxy.alert.period", alert.Period)
	if !alert.ResetsAt.IsZero() {
		a.text("llm_proxy.alert.resets_at", alert.ResetsAt.UTC().Format(time.RFC3339))
	}
	return &logs.LogRecord{
		TimeUnixNano: nano(e.Time), ObservedTimeUnixNano: nano(e.Time),
		SeverityNumber: logs.SeverityNumber_SEVERITY_NUMBER_WARN, SeverityText: "WARN", EventName: alertEvent,
		Body:       &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: valid(alert.String())}},
		Attributes: a,
	}
}
