package capture_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/capture"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answered is what is stored of an answer.
func answered(endpoint, body string) string {
	ev := &event.Event{Endpoint: endpoint, Response: body}
	capture.New(capture.Config{}).Process(ev)
	return ev.Response
}

// asked is what is stored of a request.
func asked(cfg capture.Config, body string) string {
	ev := &event.Event{Request: body}
	capture.New(cfg).Process(ev)
	return ev.Request
}
