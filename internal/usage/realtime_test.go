package usage_test

import (
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

const (
	realtimeDone = `{"type":"response.done","event_id":"e","response":{"object":"realtime.response","id":"resp_1","status":"completed",` +
		`"status_details":null,"output":[{"content":[{"transcript":"\"usage\""}]}],"usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,` +
		`"input_token_details":{"text_tokens":50,"audio_tokens":62,"image_tokens":20,"cached_tokens":64,"cached_tokens_details":{"text_tokens":44,"audio_tokens":20,"image_tokens":0}},` +
		`"output_token_details":{"text_tokens":30,"audio_tokens":91}}}}`
	realtimeTranscript = `{"type":"conversation.item.input_audio_transcription.completed","item_id":"i","transcript":"Hi","usage":{"type":"tokens",` +
		`"total_tokens":48,"input_tokens":38,"input_token_details":{"text_tokens":10,"audio_tokens":28},"output_tokens":10}}`
)

func TestRealtime(t *testing.T) {
	var r usage.Reader
	var session usage.Counts
	for _, tc := range []struct {
		message string
		billed  bool
	}{
		{`{"type":"session.created","session":{"id":"s"}}`, false},
		{`{"type":"response.created","response":{"id":"resp_1","status":"in_progress","usage":null}}`, false},
		{`{"type":"response.output_audio.delta","delta":"` + strings.Repeat("AAAA", 1000) + `"}`, false},
		{`{"type":"response.output_text.delta","delta":"{\"usage\":{\"input_tokens\":5}}"}`, false},
		{`{"type":"response.updated","response":{"usage":{"input_tokens":5,"output_tokens":1}}}`, false},
		{realtimeDone, true},
		{realtimeTranscript, true},
		{realtimeDone, true},
		{realtimeDone[:len(realtimeDone)-1], false},
		{`"usage"`, false},
		{``, false},
	} {
		c, billed := r.Message([]byte(tc.message))
		if billed != tc.billed {
			t.Errorf("%s: billed: %t", tc.message, billed)
		}
		if billed {
			if !c.Final || c.Source != usage.SourceProvider {
				t.Errorf("got %+v", c)
			}
			session.Add(&c)
		}
	}
	// Twice 132 in, of it 64 cached, and once 38; of the 62 of audio 20 are cached.
	want := usage.Counts{ResponseID: "resp_1", Finish: usage.FinishStop, Final: true, Source: usage.SourceProvider}
	for counter, n := range (m{read: 128, audioIn: 2*42 + 28, imageIn: 40, in: 2*6 + 10, out: 2*30 + 10, audioO: 2 * 91}) {
		want.Set(counter, n)
	}
	if session != want {
		t.Errorf("got %+v, want %+v", session, want)
	}
}
