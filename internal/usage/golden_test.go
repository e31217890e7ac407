package usage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// want is all that a reader tells of an answer.
type want struct {
	counts    map[usage.Counter]int64
	id        string
	model     string
	tier      string
	finish    usage.Finish
	partial   bool // not final
	noEnd     bool // the dialect's end is missing
	errorType string
	errorCode string
	failed    bool
	content   int64
	silent    bool // no content at all
}

type golden struct {
	file string
	kind usage.Kind
	want want
}

type m = map[usage.Counter]int64

const (
	in, read, w5, w1 = usage.Input, usage.CacheRead, usage.CacheWrite5m, usage.CacheWrite1h
	out, thought     = usage.Output, usage.Reasoning
	audioIn, audioO  = usage.AudioInput, usage.AudioOutput
	imageIn, imageO  = usage.ImageInput, usage.ImageOutput
)

var goldens = []golden{
	{"openai-chat.sse", usage.KindChat, want{
		counts: m{in: 176, read: 1024, audioIn: 0, out: 54, thought: 256, audioO: 0},
		id:     "chatcmpl-B1", model: "gpt-5-mini-2025-08-07", tier: "default", finish: usage.FinishStop, content: 39,
	}},
	{"openai-tool.sse", usage.KindChat, want{id: "chatcmpl-B1", model: "gpt-5-mini-2025-08-07", finish: usage.FinishToolCalls, partial: true, content: 29}},
	{"openai-chat.json", usage.KindChat, want{
		counts: m{in: 60, read: 0, audioIn: 40, out: 15, thought: 0, audioO: 45},
		id:     "chatcmpl-B2", model: "gpt-audio", tier: "flex", finish: usage.FinishLength, content: 3,
	}},
	{"openai-completion.json", usage.KindChat, want{
		counts: m{in: 5, out: 7}, id: "cmpl-1", model: "gpt-3.5-turbo-instruct", finish: usage.FinishLength, content: 9,
	}},
	{"azure-chat.sse", usage.KindChat, want{
		counts: m{in: 8, out: 1}, id: "chatcmpl-B1", model: "gpt-4o-2024-11-20", finish: usage.FinishFiltered, content: 2,
	}},
	{"groq-chat.sse", usage.KindChat, want{
		counts: m{in: 41, out: 12}, id: "chatcmpl-B1", model: "llama-3.3-70b-versatile", finish: usage.FinishStop, content: 3,
	}},
	{"groq-chat.json", usage.KindChat, want{
		counts: m{in: 20, out: 3}, id: "chatcmpl-g", model: "llama-3.1-8b-instant", tier: "on_demand", finish: usage.FinishStop, content: 2,
	}},
	{"deepseek-chat.sse", usage.KindChat, want{
		counts: m{in: 26, read: 64, out: 3, thought: 30}, id: "chatcmpl-B1", model: "deepseek-reasoner", finish: usage.FinishStop, content: 4,
	}},
	{"mistral-chat.sse", usage.KindChat, want{
		counts: m{in: 16, out: 2}, id: "m1", model: "mistral-small-latest", finish: usage.FinishStop, content: 5,
	}},
	{"xai-chat.json", usage.KindChat, want{
		counts: m{in: 26, read: 6, audioIn: 0, imageIn: 0, out: 9, thought: 94, audioO: 0}, id: "x1", model: "grok-4", finish: usage.FinishStop, content: 2,
	}},
	{"vllm-chat.sse", usage.KindChat, want{
		counts: m{in: 10, out: 3}, id: "chatcmpl-B1", model: "m", finish: usage.FinishStop, content: 2,
	}},
	{"openrouter-error.sse", usage.KindChat, want{
		id: "gen-1", model: "anthropic/claude-sonnet-4", finish: usage.FinishError, failed: true, errorCode: "502", partial: true, content: 5,
	}},
	{"gemini-openai.sse", usage.KindGeminiChat, want{
		counts: m{in: 6, out: 3, thought: 411}, id: "g1", model: "gemini-2.5-flash", finish: usage.FinishStop, content: 5,
	}},
	{"openai-embeddings.json", usage.KindChat, want{counts: m{in: 8}, model: "text-embedding-3-small", silent: true}},
	{"responses.sse", usage.KindResponses, want{
		counts: m{in: 200, read: 1500, w5: 300, out: 26, thought: 64, usage.WebSearches: 2},
		id:     "resp_1", model: "gpt-5.1", tier: "default", finish: usage.FinishStop, content: 6,
	}},
	{"responses-incomplete.json", usage.KindResponses, want{
		counts: m{in: 2000, read: 0, out: 26, thought: 64},
		id:     "resp_1", model: "gpt-5.1", tier: "default", finish: usage.FinishLength, content: 3 + 6 + 11,
	}},
	{"responses-failed.sse", usage.KindResponses, want{
		counts: m{in: 5, out: 0}, id: "resp_1", model: "gpt-5.1", tier: "default", finish: usage.FinishError,
		failed: true, errorCode: "server_error", silent: true,
	}},
	{"responses-error.sse", usage.KindResponses, want{failed: true, errorCode: "rate_limit_exceeded", partial: true, noEnd: true, silent: true}},
	{"responses-queued.json", usage.KindResponses, want{id: "resp_1", model: "gpt-5.1", tier: "default", partial: true, silent: true}},
	{"images.json", usage.KindImages, want{counts: m{in: 27, imageIn: 323, imageO: 544, usage.Images: 2}}},
	{"images-dalle.json", usage.KindImages, want{counts: m{usage.Images: 1}}},
	{"images.sse", usage.KindImages, want{counts: m{in: 100, imageIn: 0, imageO: 272, usage.Images: 1}}},
	{"transcription.json", usage.KindTranscripts, want{counts: m{in: 4, audioIn: 10, out: 45}, content: 11}},
	{"transcription-whisper.json", usage.KindTranscripts, want{counts: m{usage.AudioMillis: 9000}, content: 9}},
	{"transcription-groq.json", usage.KindTranscripts, want{counts: m{usage.AudioMillis: 2501}, content: 3}},
	{"transcription.sse", usage.KindTranscripts, want{counts: m{in: 0, audioIn: 14, out: 4}, content: 11}},
	{"speech.sse", usage.KindSpeech, want{counts: m{in: 14, audioO: 101}}},
	{"ocr.json", usage.KindOCR, want{counts: m{usage.Pages: 2}, model: "mistral-ocr-2505", silent: true}},
	{"messages.sse", usage.KindMessages, want{
		counts: m{in: 12, read: 3100, w5: 200, w1: 300, out: 48, thought: 40, usage.WebSearches: 1},
		id:     "msg_01", model: "claude-sonnet-4-5", tier: "standard", finish: usage.FinishToolCalls, content: 3 + 7 + 28,
	}},
	{"messages.json", usage.KindMessages, want{
		counts: m{in: 10, read: 0, w5: 50, w1: 0, out: 20},
		id:     "msg_02", model: "claude-haiku-4-5", tier: "priority", finish: usage.FinishLength, content: 2,
	}},
	{"messages-error.sse", usage.KindMessages, want{
		counts: m{in: 12, read: 3000, w5: 200, w1: 300, out: 2}, id: "msg_01", model: "claude-sonnet-4-5", tier: "standard",
		failed: true, errorType: "overloaded_error", partial: true, noEnd: true, silent: true,
	}},
	{"error.json", usage.KindChat, want{failed: true, errorType: "requests", errorCode: "rate_limit_exceeded", partial: true, silent: true}},
	{"gemini.sse", usage.KindGenerate, geminiWant},
	{"gemini-array.json", usage.KindGenerate, geminiWant},
	{"gemini.json", usage.KindGenerate, want{
		counts: m{in: 9, out: 0, imageO: 1290}, id: "r1", model: "gemini-2.5-flash", tier: "standard", finish: usage.FinishLength,
	}},
	{"gemini-blocked.json", usage.KindGenerate, want{counts: m{in: 4}, model: "gemini-2.5-flash", finish: usage.FinishFiltered, silent: true}},
	{"gemini-error.json", usage.KindGenerate, want{failed: true, errorCode: "UNAVAILABLE", partial: true, silent: true}},
	{"gemini-predict.json", usage.KindGenerate, want{counts: m{usage.Images: 2}}},
}

// geminiWant: of 1050 tokens in, 700 are cached, 150 of these audio.
var geminiWant = want{
	counts: m{in: 250, read: 700, audioIn: 50, imageIn: 50, out: 3, thought: 150},
	id:     "r1", model: "gemini-2.5-flash", finish: usage.FinishStop, content: 5,
}

func load(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func contentType(file string) string {
	if strings.HasSuffix(file, ".sse") {
		return "text/event-stream; charset=utf-8"
	}
	return "application/json"
}

// read feeds the pieces to a reader.
func readPieces(kind usage.Kind, contentType string, pieces ...[]byte) *usage.Reader {
	r := new(usage.Reader)
	r.Reset(kind, contentType)
	for _, p := range pieces {
		_, _ = r.Write(p)
	}
	return r
}

// observed is what a reader tells, comparable.
type observed struct {
	counts             usage.Counts
	ended, failed      bool
	errorType, errCode string
	content            int64
	seen               bool
}

func observe(r *usage.Reader) observed {
	o := observed{counts: r.Counts(), ended: r.Ended(), content: r.ContentBytes(), seen: r.ContentSeen()}
	o.errorType, o.errCode, o.failed = r.Failed()
	return o
}

func TestGoldens(t *testing.T) {
	seen := make(map[string]bool)
	for _, g := range goldens {
		seen[g.file] = true
		t.Run(g.file, func(t *testing.T) {
			t.Parallel()
			r, w := readPieces(g.kind, contentType(g.file), load(t, g.file)), g.want
			got := observe(r)
			if r.Pending() != (g.file == "responses-queued.json") {
				t.Errorf("pending: %t", r.Pending())
			}
			for c := usage.Input; c.String() != "unknown"; c++ {
				n, ok := got.counts.Get(c)
				if k, present := w.counts[c]; n != k || ok != present {
					t.Errorf("%s is %d (present: %t), want %d (%t)", c, n, ok, k, present)
				}
			}
			source := usage.SourceProvider
			if w.counts == nil {
				source = usage.SourceNone
			}
			c := got.counts
			if c.ResponseID != w.id || c.Model != w.model || c.ServiceTier != w.tier || c.Finish != w.finish || c.Final == w.partial || c.Source != source {
				t.Errorf("counts are %+v, want %+v", c, w)
			}
			if got.ended == w.noEnd || got.failed != w.failed || got.errorType != w.errorType || got.errCode != w.errorCode {
				t.Errorf("got %+v, want %+v", got, w)
			}
			if got.content != w.content || got.seen == w.silent {
				t.Errorf("%d bytes of content, seen: %t; want %d, %t", got.content, got.seen, w.content, !w.silent)
			}
		})
	}
	files, _ := filepath.Glob("testdata/*.*")
	for _, f := range files {
		if !seen[filepath.Base(f)] {
			t.Errorf("%s is not read by any test", f)
		}
	}
}

// TestGoldensInPieces cuts each golden at every byte, and between any two.
func TestGoldensInPieces(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.file, func(t *testing.T) {
			t.Parallel()
			data, ct := load(t, g.file), contentType(g.file)
			whole := observe(readPieces(g.kind, ct, data))
			for i := range data {
				if got := observe(readPieces(g.kind, ct, data[:i], data[i:])); got != whole {
					t.Fatalf("cut at %d: got %+v, want %+v", i, got, whole)
				}
			}
			r := readPieces(g.kind, ct)
			for i := range data {
				_, _ = r.Write(data[i : i+1])
			}
			if got := observe(r); got != whole {
				t.Fatalf("byte by byte: got %+v, want %+v", got, whole)
			}
		})
	}
}

// TestLineEnds reads each stream with other ends of lines, and with what else
// the format allows.
func TestLineEnds(t *testing.T) {
	for _, g := range goldens {
		if !strings.HasSuffix(g.file, ".sse") {
			continue
		}
		t.Run(g.file, func(t *testing.T) {
			t.Parallel()
			data := load(t, g.file)
			whole := observe(readPieces(g.kind, "text/event-stream", data))
			text := strings.ReplaceAll(string(data), "\r\n", "\n")
			noted := strings.ReplaceAll(text, "data: ", ": note\nid:7\nretry\ndata:")
			apart := strings.ReplaceAll(text, ",\"", "\ndata: ,\ndata:\"")
			for name, variant := range map[string]string{
				"CR": strings.ReplaceAll(text, "\n", "\r"), "CRLF": strings.ReplaceAll(text, "\n", "\r\n"), "mixed": strings.ReplaceAll(text, "\n\n", "\r\n\r"),
				"other fields": noted, "data over several lines": apart, "CRLF over several lines": strings.ReplaceAll(apart, "\n", "\r\n"),
			} {
				got := observe(readPieces(g.kind, "text/event-stream", []byte(variant)))
				if strings.Contains(name, "lines") && strings.Contains(text, `\"`) {
					got.content = whole.content // the text of the answer was changed by the variant
				}
				if got != whole {
					t.Errorf("%s: got %+v, want %+v", name, got, whole)
				}
			}
		})
	}
}
