package usage

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
)

// known is all that a reader knows.
type known struct {
	counts    Counts
	ended     bool
	failed    bool
	kind, cod string
	content   int64
	seen      bool
}

func all(r *Reader) known {
	k := known{counts: r.Counts(), ended: r.Ended(), content: r.ContentBytes(), seen: r.ContentSeen()}
	k.kind, k.cod, k.failed = r.Failed()
	return k
}

func readAll(kind Kind, contentType string, pieces ...[]byte) *Reader {
	r := new(Reader)
	r.Reset(kind, contentType)
	for _, p := range pieces {
		_, _ = r.Write(p)
	}
	return r
}

// FuzzBody reads any bytes as a body of any kind: in pieces as in one, and what
// is JSON as encoding/json reads it.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"id":"c","model":"m","choices":[{"message":{"content":"\u00e9\ud83d\ude00\n"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":2}}}`,
		`{"usage":{"type":"duration","seconds":9.5},"duration":1e2,"text":"x"}`, `{"usage_info":{"pages_processed":2}}`, `{"data":[{"b64_json":"x"},{}],"usage":{"input_tokens":1}}`,
		`[{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":2}]}}]`,
		`{"error":{"code":429,"type":"x"}}`, `{"usage":{"prompt_tokens":1e999,"prompt_tokens":-1}}`, `{"a":[[[{}]]],"usage":null}`, `{"us\u0061ge":{}}`, `{"usage":{}]`, `{`,
		`{"usage":{"input_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":3}},"message":{"usage":{"output_tokens":2}}}`,
	} {
		for kind := range kinds {
			f.Add([]byte(seed), byte(kind), uint(len(seed)/2))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, k byte, cut uint) {
		kind := Kind(k) % kinds
		before := bytes.Clone(body)
		whole := readAll(kind, "application/json", body)
		if !bytes.Equal(before, body) {
			t.Fatal("the bytes were changed")
		}
		at := int(cut % uint(len(body)+1))
		if got := all(readAll(kind, "application/json", body[:at], body[at:])); got != all(whole) {
			t.Fatalf("kind %d, cut at %d: got %+v, want %+v", kind, at, got, all(whole))
		}
		if got := all(readAll(kind, "application/json", bytesOf(body)...)); got != all(whole) {
			t.Fatalf("kind %d, byte by byte: got %+v, want %+v", kind, got, all(whole))
		}
		checkCounts(t, whole)
		switch kind {
		case KindChat, KindTranscripts, KindOCR, KindImages, KindSpeech:
			if json.Valid(body) && !bytes.Contains(body, []byte("groq")) && whole.form.body != nil {
				compare(t, whole, body)
			}
		}
	})
}

func bytesOf(b []byte) [][]byte {
	single := make([][]byte, len(b))
	for i := range b {
		single[i] = b[i : i+1]
	}
	return single
}

// checkCounts holds what is true of all counts.
func checkCounts(t *testing.T, r *Reader) {
	t.Helper()
	c := r.Counts()
	for i := range counters {
		if n, ok := c.Get(i); n < 0 || n > maxCount || !ok && n != 0 {
			t.Fatalf("%s is %d (%t)", i, n, ok)
		}
	}
	if c.Final && c.Source != SourceProvider || c.Empty() != (c.Source == SourceNone) {
		t.Fatalf("final from nobody: %+v", c)
	}
	for _, s := range []string{c.Model, c.ResponseID, c.ServiceTier} {
		if len(s) > maxText || !printable([]byte(s)) {
			t.Fatalf("text %q", s)
		}
	}
	if r.ContentBytes() > 0 && !r.ContentSeen() {
		t.Fatal("content was not seen")
	}
}

// compare holds the fields against those that encoding/json sees in the places
// that the tree names.
func compare(t *testing.T, r *Reader, body []byte) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var want raw
	if _, ok := v.(map[string]any); ok {
		lookUp(&want, r.form.body, v)
	}
	if r.total.present != want.present {
		t.Fatalf("%s: fields %b, want %b", body, r.total.present, want.present)
	}
	for f := range fieldCount {
		if want.has(f) && r.total.get(f) != want.get(f) {
			t.Fatalf("%s: field %d is %d, want %d", body, f, r.total.get(f), want.get(f))
		}
	}
}

func lookUp(want *raw, n *node, v any) {
	switch v := v.(type) {
	case map[string]any:
		if n.role == roleItem {
			want.add(n.field, 1)
		}
		for _, k := range n.kids {
			if member, ok := v[k.name]; ok {
				lookUp(want, k, member)
			}
		}
	case []any:
		for _, e := range v {
			if n.elem != nil {
				lookUp(want, n.elem, e)
			}
		}
	case json.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		if n.role == roleMillis {
			f = math.Ceil(f * 1000)
		}
		if n.field != noField && n.role != roleItem && err == nil && len(v) <= maxNumber && f >= 0 && f <= maxCount && f == math.Trunc(f) {
			want.set(n.field, int64(f))
		}
	}
}

// FuzzEvents reads any bytes as a stream of any kind: in pieces as in one, and as
// a plain reader of the format cuts it.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"usage\":{\"prompt_tokens\":5}}\r\n\r\ndata: [DONE]\n\n",
		"\ufeff: c\revent: error\rdata:{\"type\":\"error\",\"code\":\"x\"}\r\r", "data: {\"usage\":\ndata: {\"input_tokens\":5}}\n\n", "\xef\xbbdata: [DONE]\n\n",
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":4}}}\n\n", "data\ndata:\n\n:\n\nid: 3\n", "data: {\"usage\"",
		"event:error\r\ndata: x\r\n\r\n", "data: [DO\ndata: NE]\n\n", "events: error\ndatadata: {}\n\n",
	} {
		for kind := range kinds {
			f.Add([]byte(seed), byte(kind), uint(len(seed)/2))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, k byte, cut uint) {
		kind := Kind(k) % kinds
		whole := readAll(kind, "text/event-stream", stream)
		at := int(cut % uint(len(stream)+1))
		if got := all(readAll(kind, "text/event-stream", stream[:at], stream[at:])); got != all(whole) {
			t.Fatalf("kind %d, cut at %d: got %+v, want %+v", kind, at, got, all(whole))
		}
		if got := all(readAll(kind, "text/event-stream", bytesOf(stream)...)); got != all(whole) {
			t.Fatalf("kind %d, byte by byte: got %+v, want %+v", kind, got, all(whole))
		}
		if got := all(readAll(kind, "text/event-stream", canonical(stream))); got != all(whole) {
			t.Fatalf("kind %d: %q reads as %+v, its canonical form %q as %+v", kind, stream, all(whole), canonical(stream), got)
		}
		checkCounts(t, whole)
	})
}

// canonical writes a stream anew, with the lines that mean something alone.
func canonical(stream []byte) []byte {
	text := strings.ReplaceAll(string(stream), "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	if rest, ok := strings.CutPrefix(text, byteOrderMark); ok {
		text = rest
	}
	var out strings.Builder
	for line := range strings.SplitAfterSeq(text, "\n") {
		name, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if line == "\n" || (name == "data" || name == "event") && strings.Contains(line, ":") {
			out.WriteString(line)
		}
	}
	return []byte(out.String())
}

// FuzzMessage: a message of a realtime session is read or it is not.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"type":"response.done","response":{"id":"r","status":"completed","usage":{"input_tokens":5,"output_tokens":2,"input_token_details":{"cached_tokens":1}}}}`,
		`{"usage":{"seconds":3,"type":"duration"},"type":"conversation.item.input_audio_transcription.completed"}`, `"usage"`, `{"usage":`,
	} {
		f.Add([]byte(seed))
	}
	var r Reader
	f.Fuzz(func(t *testing.T, message []byte) {
		c, billed := r.Message(message)
		if billed == c.Empty() {
			t.Fatalf("billed: %t: %+v", billed, c)
		}
		checkCounts(t, &r)
		if again, ok := r.Message(message); again != c || ok != billed {
			t.Fatalf("read again: %+v, want %+v", again, c)
		}
	})
}
