package usage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

const (
	usageFrame   = `data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}`
	contentFrame = `data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}],"usage":null}`
)

// filtered feeds the pieces to a filter.
func filtered(t testing.TB, pieces ...[]byte) ([]byte, int) {
	t.Helper()
	var out bytes.Buffer
	var f usage.Filter
	f.Reset(&out)
	for _, p := range pieces {
		if n, err := f.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), f.Removed()
}

// everyCut runs the stream whole, cut at every byte, and byte by byte.
func everyCut(t *testing.T, stream []byte, check func(how string, out []byte, removed int)) {
	t.Helper()
	single := make([][]byte, len(stream))
	for i := range stream {
		single[i] = stream[i : i+1]
		out, removed := filtered(t, stream[:i], stream[i:])
		check("cut", out, removed)
	}
	out, removed := filtered(t, single...)
	check("byte by byte", out, removed)
	out, removed = filtered(t, stream)
	check("whole", out, removed)
}

func TestFilter(t *testing.T) {
	const end = "data: [DONE]\n\n"
	for name, tc := range map[string]struct{ before, frame, after string }{
		"plain":                {contentFrame + "\n\n", usageFrame + "\n\n", end},
		"CRLF":                 {contentFrame + "\r\n\r\n", usageFrame + "\r\n\r\n", "data: [DONE]\r\n\r\n"},
		"CR":                   {contentFrame + "\r\r", usageFrame + "\r\r", "data: [DONE]\r\r"},
		"mixed":                {contentFrame + "\n\r\n", usageFrame + "\r\n\n", end},
		"alone":                {"", usageFrame + "\n\n", ""},
		"first, after a mark":  {"\ufeff", usageFrame + "\n\n", end},
		"after a comment":      {": keep-alive\n", usageFrame + "\n\n", end},
		"a comment inside":     {"", "data:\n: keep-alive\n" + usageFrame + "\n\n", end},
		"other fields":         {"", "event: x\nid: 4\nretry: 5\n" + usageFrame + "\nfoo\n\n", end},
		"several lines":        {"", strings.ReplaceAll(usageFrame, `,"`, "\ndata:,\"") + "\n\n", end},
		"members reordered":    {"", `data:{"usage":{},"x":[{"choices":[1]}],"choices":[ ],"error":null}` + "\n\n", end},
		"empty lines around":   {contentFrame + "\n\n\n\n", usageFrame + "\n\n", "\n\n" + end},
		"next one right after": {"", usageFrame + "\n\n", contentFrame + "\n\n" + end},
		"two":                  {"", usageFrame + "\n\n" + usageFrame + "\n\n", end},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := tc.before + tc.after
			everyCut(t, []byte(tc.before+tc.frame+tc.after), func(how string, out []byte, removed int) {
				if string(out) != want || removed != strings.Count(tc.frame, "\"choices\":[]")+strings.Count(tc.frame, "\"choices\":[ ]") {
					t.Fatalf("%s: got %q (%d removed), want %q", how, out, removed, want)
				}
			})
		})
	}
}

func TestFilterPasses(t *testing.T) {
	for name, stream := range map[string]string{
		"content":                 contentFrame + "\n\n",
		"usage null":              `data: {"choices":[],"usage":null}` + "\n\n",
		"no usage":                `data: {"choices":[],"prompt_filter_results":[{}]}` + "\n\n",
		"no choices":              `data: {"usage":{"prompt_tokens":1}}` + "\n\n",
		"usage with content":      `data: {"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}` + "\n\n",
		"usage before content":    `data: {"usage":{"prompt_tokens":1},"choices":[{}]}` + "\n\n",
		"choices twice":           `data: {"choices":[],"choices":[],"usage":{}}` + "\n\n",
		"usage twice":             `data: {"choices":[],"usage":{},"usage":{}}` + "\n\n",
		"choices null":            `data: {"choices":null,"usage":{}}` + "\n\n",
		"an error":                `data: {"choices":[],"usage":{},"error":{"code":500}}` + "\n\n",
		"not complete":            usageFrame + "\n",
		"no blank line":           usageFrame,
		"broken JSON":             strings.TrimSuffix(usageFrame, "}") + "\n\n",
		"broken JSON deep inside": `data: {"choices":[],"usage":{"a":[}]}` + "\n\n",
		"two documents":           usageFrame + "{}\n\n",
		"a list":                  `data: [{"choices":[],"usage":{}}]` + "\n\n",
		"text":                    "data: choices usage\n\n",
		"nothing":                 "data\n\ndata:\n\ndata: \n\n",
		"other field":             strings.Replace(usageFrame, "data", "date", 1) + "\n\n",
		"longer field":            strings.Replace(usageFrame, "data", "data2", 1) + "\n\n",
		"commented out":           ":" + usageFrame + "\n\n",
		"too large":               `data: {"choices":[],"usage":{"x":"` + strings.Repeat("x", 20<<10) + `"}}` + "\n\n",
		"line ends":               "\n\r\r\n\n\r",
		"events without data":     "event: ping\nid: 1\n\n: x\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check := func(how string, out []byte, removed int) {
				if string(out) != stream || removed != 0 {
					t.Fatalf("%s: got %.300q (%d removed), want %.300q", how, out, removed, stream)
				}
			}
			if len(stream) < 4<<10 {
				everyCut(t, []byte(stream), check)
				return
			}
			for i := 0; i < len(stream); i += 997 {
				out, removed := filtered(t, []byte(stream[:i]), []byte(stream[i:]))
				check("cut", out, removed)
			}
		})
	}
}

// TestFilterIsPrompt: what cannot be the usage goes on as it comes.
func TestFilterIsPrompt(t *testing.T) {
	for name, tc := range map[string]struct{ come, gone string }{
		"a comment":               {": keep-alive", ": keep-alive"},
		"a comment line":          {": keep-alive\n", ": keep-alive\n"},
		"a mark":                  {"\ufeff", "\ufeff"},
		"the end":                 {"data: [", "data: ["},
		"content":                 {`data: {"id":"c","choices":[{`, `data: {"id":"c","choices":[{`},
		"content further on":      {contentFrame[:len(contentFrame)-20], contentFrame[:len(contentFrame)-20]},
		"usage null":              {`data: {"choices":[],"usage":n`, `data: {"choices":[],"usage":n`},
		"an event is not decided": {contentFrame + "\n\n" + `data: {"id":`, contentFrame + "\n\n"},
		"usage is not decided":    {": x\n" + usageFrame, ": x\n"},
		"malformed":               {"data: ,", "data: ,"},
		"after a long beginning":  {`data: {"id":"` + strings.Repeat("x", 16<<10), `data: {"id":"` + strings.Repeat("x", 16<<10)},
	} {
		for _, split := range []bool{false, true} {
			var out bytes.Buffer
			var f usage.Filter
			f.Reset(&out)
			pieces := [][]byte{[]byte(tc.come)}
			if split {
				pieces = bytes.SplitAfter([]byte(tc.come), nil)
			}
			for _, p := range pieces {
				_, _ = f.Write(p)
			}
			if out.String() != tc.gone {
				t.Errorf("%s (split: %t): %.100q has come, %.100q has gone", name, split, tc.come, out.String())
			}
		}
	}
}

// TestFilterOneWrite: a piece that all passes is written once, not copied.
func TestFilterOneWrite(t *testing.T) {
	var writes [][]byte
	var f usage.Filter
	f.Reset(writerFunc(func(p []byte) (int, error) {
		writes = append(writes, p)
		return len(p), nil
	}))
	piece := []byte(strings.Repeat(contentFrame+"\n\n", 10))
	_, _ = f.Write(piece)
	if len(writes) != 1 || &writes[0][0] != &piece[0] || len(writes[0]) != len(piece) {
		t.Errorf("%d writes", len(writes))
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

func TestFilterTellsOfErrors(t *testing.T) {
	gone := errors.New("gone")
	for _, stream := range []string{
		contentFrame + "\n\n", contentFrame + "\n\n" + usageFrame + "\n\n" + contentFrame, contentFrame + "\n\n" + usageFrame,
		usageFrame + "\r\n\r\n" + contentFrame, strings.Repeat("data: ", 5000),
	} {
		var f usage.Filter
		f.Reset(writerFunc(func([]byte) (int, error) { return 0, gone }))
		if _, err := f.Write([]byte(stream)); !errors.Is(err, gone) {
			t.Errorf("%.60q: %v", stream, err)
		}
	}
	var f usage.Filter
	f.Reset(writerFunc(func([]byte) (int, error) { return 0, gone }))
	_, _ = f.Write([]byte("data: {"))
	if err := f.Close(); !errors.Is(err, gone) {
		t.Errorf("Close: %v", err)
	}
}

func TestFilterGoldens(t *testing.T) {
	for file, removed := range map[string]int{"openai-chat.sse": 1, "azure-chat.sse": 1, "vllm-chat.sse": 1, "openai-tool.sse": 0, "groq-chat.sse": 0, "mistral-chat.sse": 0, "messages.sse": 0, "openrouter-error.sse": 0} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			stream := load(t, file)
			var want []byte
			for frame := range bytes.SplitAfterSeq(stream, []byte("\n\n")) {
				if !bytes.Contains(frame, []byte(`"choices":[],`)) || !bytes.Contains(frame, []byte(`"usage":{`)) {
					want = append(want, frame...)
				}
			}
			everyCut(t, stream, func(how string, out []byte, n int) {
				if !bytes.Equal(out, want) || n != removed {
					t.Fatalf("%s: %d removed, %d bytes, want %d and %d", how, n, len(out), removed, len(want))
				}
			})
		})
	}
}

// TestFilterProperty: the client gets the provider's bytes but for the frames
// that are taken out, whatever comes and in whatever pieces.
func TestFilterProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream, want []byte
		nl := rapid.SampledFrom([]string{"\n", "\r\n", "\r"}).Draw(t, "line end")
		for range rapid.IntRange(0, 8).Draw(t, "frames") {
			text, _ := json.Marshal(rapid.String().Draw(t, "text"))
			frame := rapid.SampledFrom([]string{
				usageFrame, contentFrame, "data: [DONE]", ": note", "", "event: ping" + nl + "data: {}", `data: {"choices":[],"usage":null}`,
				`data: {"choices":[{"delta":{"content":` + string(text) + `}}]}`, `data: {"x":` + string(text) + `,"choices":[],"usage":{"n":1}}`,
			}).Draw(t, "frame")
			whole := []byte(frame + nl + nl)
			stream = append(stream, whole...)
			if !strings.Contains(frame, `"choices":[],"usage":{`) {
				want = append(want, whole...)
			}
		}
		whole := stream
		var pieces [][]byte
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "piece")
			pieces = append(pieces, stream[:n])
			stream = stream[n:]
		}
		var out bytes.Buffer
		var f usage.Filter
		f.Reset(&out)
		for _, p := range pieces {
			_, _ = f.Write(p)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Fatalf("%q became %q, want %q", whole, out.Bytes(), want)
		}
	})
}

// FuzzFilter holds the filter against one that has the whole stream.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		contentFrame + "\n\n" + usageFrame + "\n\ndata: [DONE]\n\n", usageFrame + "\r\n\r\n", ": x\r" + usageFrame + "\r\r", "\ufeff" + usageFrame + "\n\n",
		"data: {\"choices\":[],\ndata:\"usage\":{}}\n\n", "\xef\xbb" + usageFrame + "\n\n", "data\ndata: {\"usage\":{},\"choices\":[]}\n: c\n\n\n",
		"data: {\"choices\":[],\"usage\":{\"a\":[}]}}\n\n", "data: {\"choices\":[],\"usage\":{\"\xff\":\"\\ud800\"}}\n\n",
	} {
		f.Add([]byte(seed), uint(len(seed)/2))
	}
	f.Fuzz(func(t *testing.T, stream []byte, cut uint) {
		if len(stream) > 8<<10 {
			return // maxHeld is tested elsewhere
		}
		at := int(cut % uint(len(stream)+1))
		want := withoutUsage(stream)
		out, _ := filtered(t, stream[:at], stream[at:])
		if !bytes.Equal(out, want) {
			t.Fatalf("cut at %d: %q became %q, want %q", at, stream, out, want)
		}
		single := make([][]byte, len(stream))
		for i := range stream {
			single[i] = stream[i : i+1]
		}
		if out, _ = filtered(t, single...); !bytes.Equal(out, want) {
			t.Fatalf("byte by byte: %q became %q, want %q", stream, out, want)
		}
	})
}

// withoutUsage reads the lines as the specification says, and each event's data
// with encoding/json.
func withoutUsage(stream []byte) []byte {
	var out, frame, data []byte
	mark := 0
	for mark < 3 && mark < len(stream) && stream[mark] == "\xef\xbb\xbf"[mark] {
		mark++
	}
	out = append(out, stream[:mark]...)
	other := mark == 1 || mark == 2 // the first line has some other name
	open := false
	for rest := stream[mark:]; len(rest) > 0; {
		n := bytes.IndexAny(rest, "\r\n")
		if n < 0 {
			break // not complete
		}
		line, end := rest[:n], n+1
		if rest[n] == '\r' && end < len(rest) && rest[end] == '\n' {
			end++
		}
		whole := rest[:end]
		rest = rest[end:]
		switch name, value, _ := bytes.Cut(line, []byte(":")); {
		case len(line) == 0 && !other:
			if !isUsageOnly(data) {
				out = append(append(out, frame...), whole...)
			}
			frame, data, open = nil, nil, false
			continue
		case !other && line[0] == ':' && !open:
			out = append(out, whole...)
			continue
		case !other && string(name) == "data":
			data = append(append(data, value...), '\n')
		}
		open, other = true, false
		frame = append(frame, whole...)
	}
	// What is not complete stays.
	return append(out, stream[len(stream)-tailOf(stream, mark, frame):]...)
}

// tailOf is the size of the event that is under way at the end.
func tailOf(stream []byte, mark int, frame []byte) int {
	rest := stream[mark:]
	last := max(bytes.LastIndexByte(rest, '\n'), bytes.LastIndexByte(rest, '\r'))
	return len(frame) + len(rest) - last - 1
}

func isUsageOnly(data []byte) bool {
	if !json.Valid(data) {
		return false
	}
	n := repeated(data)
	if n["choices"] != 1 || n["usage"] != 1 {
		return false
	}
	ok := true
	each(data, func(name string, v json.RawMessage) { ok = ok && (name != "error" || string(v) == "null") })
	choices := exact(data, "choices")
	return ok && choices[0] == '[' && len(bytes.TrimSpace(choices[1:])) == 1 && exact(data, "usage")[0] == '{'
}

var _ io.Writer = (*usage.Filter)(nil)
