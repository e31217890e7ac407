package usage_test

import (
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

func TestFinish(t *testing.T) {
	const (
		chat     = `{"choices":[{"finish_reason":"%"}]}`
		message  = `{"type":"message","stop_reason":"%"}`
		generate = `{"candidates":[{"finishReason":"%"}]}`
		response = `{"status":"%","incomplete_details":null}`
	)
	for _, tc := range []struct {
		kind    usage.Kind
		body    string
		reasons map[string]usage.Finish
	}{
		{usage.KindChat, chat, map[string]usage.Finish{
			"stop": usage.FinishStop, "length": usage.FinishLength, "tool_calls": usage.FinishToolCalls, "function_call": usage.FinishToolCalls,
			"content_filter": usage.FinishFiltered, "error": usage.FinishError, "model_length": usage.FinishLength, "": usage.FinishNone, "new": usage.FinishOther,
		}},
		{usage.KindMessages, message, map[string]usage.Finish{
			"end_turn": usage.FinishStop, "stop_sequence": usage.FinishStop, "max_tokens": usage.FinishLength, "tool_use": usage.FinishToolCalls,
			"refusal": usage.FinishFiltered, "pause_turn": usage.FinishOther, "model_context_window_exceeded": usage.FinishLength,
		}},
		{usage.KindGenerate, generate, map[string]usage.Finish{
			"STOP": usage.FinishStop, "MAX_TOKENS": usage.FinishLength, "SAFETY": usage.FinishFiltered, "IMAGE_SAFETY": usage.FinishFiltered,
			"MALFORMED_FUNCTION_CALL": usage.FinishError, "FINISH_REASON_UNSPECIFIED": usage.FinishNone, "LANGUAGE": usage.FinishOther,
		}},
		{usage.KindResponses, response, map[string]usage.Finish{
			"completed": usage.FinishStop, "incomplete": usage.FinishLength, "failed": usage.FinishError, "cancelled": usage.FinishCancelled,
			"queued": usage.FinishNone, "in_progress": usage.FinishNone,
		}},
	} {
		for reason, want := range tc.reasons {
			r := readPieces(tc.kind, "application/json", []byte(strings.Replace(tc.body, "%", reason, 1)))
			if got := r.Counts().Finish; got != want {
				t.Errorf("kind %d: %q is %q, want %q", tc.kind, reason, got, want)
			}
		}
	}
}

// TestFinishIsTheTellingOne: of several, that the answer was not what it should be.
func TestFinishIsTheTellingOne(t *testing.T) {
	for body, want := range map[string]usage.Finish{
		`{"choices":[{"finish_reason":"stop"},{"finish_reason":"content_filter"},{"finish_reason":"stop"}]}`: usage.FinishFiltered,
		`{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"},{"finish_reason":null}]}`:           usage.FinishLength,
	} {
		if got := readPieces(usage.KindChat, "application/json", []byte(body)).Counts().Finish; got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	for _, body := range []string{
		`{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}`, `{"incomplete_details":{"reason":"content_filter"},"status":"incomplete"}`,
	} {
		if got := readPieces(usage.KindResponses, "application/json", []byte(body)).Counts().Finish; got != usage.FinishFiltered {
			t.Errorf("%s: %q", body, got)
		}
	}
}
