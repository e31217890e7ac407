package sink_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	goleak.VerifyTestMain(testdb.Main(m))
}

// sample is an event with something in every field.
func sample() delivery.Event {
	return delivery.Event{
		ID: uuid.Must(uuid.NewV7()), Time: time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC), Method: "POST", Endpoint: "/v1/chat/completions",
		UpstreamRequestID: "req_123", ProjectID: uuid.Must(uuid.NewV7()), TokenID: uuid.Must(uuid.NewV7()), KeyID: uuid.Must(uuid.NewV7()),
		Provider: "azure_openai", Model: "gpt-4o", ResponseModel: "gpt-4o-2026-01-01", ServiceTier: "default", Status: 200, Outcome: "ok",
		Stream: true, Attempts: 2, Cache: "miss", Latency: 1500 * time.Millisecond, TTFT: 250 * time.Millisecond, Overhead: 90 * time.Microsecond,
		BytesIn: 100, BytesOut: 2000, InputTokens: event.Known(120), CachedTokens: event.Known(20), CacheWriteTokens: event.Known(0),
		OutputTokens: event.Known(30), ReasoningTokens: event.Known(10), UsageSource: event.UsageProvider, CostNanoUSD: event.Known(1_234_567),
		PriceVersion: "v1", ClientIP: netip.MustParseAddr("192.0.2.7"), EndUser: "alice", Metadata: map[string]string{"team": "search", "env": "test"},
		Request: `{"model":"gpt-4o"}`, Response: "hello",
	}
}

func samples(n int) []delivery.Event {
	events := make([]delivery.Event, n)
	for i := range events {
		events[i] = sample()
	}
	return events
}

// alert is one of a budget, as the first alert of the documentation.
func alert() delivery.Event {
	return *event.NewAlert(time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7()), event.Alert{
		Scope: event.ScopeToken, Limit: event.LimitBudget, Percent: 80, Amount: 10e9, Used: 8_030_000_000, Held: 500_000_000, Available: 1_470_000_000,
		ResetsAt: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), Period: "month",
	})
}

// amongRequests are some alerts, of a budget and of a quota, with requests around them.
func amongRequests() []delivery.Event {
	events := samples(5)
	events[1], events[3] = alert(), alert()
	events[3].TokenID = uuid.Nil
	events[3].Alert = &event.Alert{Scope: event.ScopeProject, Limit: event.LimitRequests, Percent: 100, Amount: 7, Used: 7, Period: "total"}
	return events
}

// verdict says in a word what an error has the engine do.
func verdict(err error) string {
	var permanent *delivery.PermanentError
	var rejected *delivery.RejectedError
	var after *delivery.RetryAfterError
	switch {
	case err == nil:
		return "taken"
	case errors.As(err, &permanent):
		return "permanent"
	case errors.As(err, &rejected):
		return fmt.Sprintf("rejected %d", len(rejected.Events))
	case errors.As(err, &after):
		return fmt.Sprintf("again after %s", after.After)
	}
	return "again"
}
