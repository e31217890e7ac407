package usage_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

func TestOddNumbers(t *testing.T) {
	for literal, want := range map[string]int64{
		`7`: 7, `0`: 0, `-0`: 0, `12.0`: 12, `1e3`: 1000, `1.5e1`: 15, `1099511627776`: 1 << 40,
		`-1`: -1, `1.5`: -1, `"7"`: -1, `null`: -1, `true`: -1, `{}`: -1, `[]`: -1, `[7]`: -1, `{"a":7}`: -1, `""`: -1,
		`1099511627777`: -1, `9223372036854775808`: -1, `1e400`: -1, `1e18`: -1, `18446744073709551617`: -1,
		`1` + strings.Repeat("0", 300): -1, `0.` + strings.Repeat("0", 200): -1, `trash`: -1, `0x10`: -1, `1_0`: -1, `1e`: -1, `NaN`: -1,
	} {
		body := []byte(`{"usage":{"completion_tokens":3,"prompt_tokens":` + literal + ` }}`)
		for cut := range body {
			c := readPieces(usage.KindChat, "application/json", body[:cut], body[cut:]).Counts()
			n, ok := c.InputTokens()
			if ok != (want >= 0) || ok && n != want {
				t.Fatalf("%.40s, cut at %d: got %d, %t, want %d", literal, cut, n, ok, want)
			}
		}
	}
}

// TestLastOneWins: of a member that comes twice, the later, as a whole, is what
// most parsers see.
func TestLastOneWins(t *testing.T) {
	for body, want := range map[string]want{
		`{"usage":{"prompt_tokens":5,"completion_tokens":5},"usage":{"prompt_tokens":2}}`:                                         {counts: m{in: 2}},
		`{"usage":{"prompt_tokens":5,"prompt_tokens":6}}`:                                                                         {counts: m{in: 6}},
		`{"usage":{"prompt_tokens":5,"prompt_tokens":"6"}}`:                                                                       {},
		`{"usage":{"prompt_tokens":5},"usage":null}`:                                                                              {},
		`{"usage":null,"usage":{"prompt_tokens":5}}`:                                                                              {counts: m{in: 5}},
		`{"usage":{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":3},"prompt_tokens_details":{}}}`:                    {counts: m{in: 5}},
		`{"usage":{"prompt_tokens":5},"x_groq":{"id":"r"}}`:                                                                       {counts: m{in: 5}},
		`{"usage":{"prompt_tokens":5},"x_groq":null}`:                                                                             {counts: m{in: 5}},
		`{"us\u0061ge":{"prompt\u005ftokens":5}}`:                                                                                 {counts: m{in: 5}},
		`{"Usage":{"prompt_tokens":5}}`:                                                                                           {},
		`{"usage":[{"prompt_tokens":5}]}`:                                                                                         {},
		`{"usage":{"prompt_tokens":4,"prompt_tokens_details":{"cached_tokens":9,"audio_tokens":9}}}`:                              {counts: m{in: 0, read: 4, audioIn: 0}},
		`{"usage":{"prompt_tokens":4,"completion_tokens":4,"total_tokens":8,"completion_tokens_details":{"reasoning_tokens":9}}}`: {counts: m{in: 4, out: 0, thought: 4}},
	} {
		c := readPieces(usage.KindChat, "application/json", []byte(body)).Counts()
		for counter := usage.Input; counter.String() != "unknown"; counter++ {
			n, ok := c.Get(counter)
			if k, present := want.counts[counter]; n != k || ok != present {
				t.Errorf("%s: %s is %d (%t), want %d (%t)", body, counter, n, ok, k, present)
			}
		}
	}
}

// TestOnlyTheRealUsage: a usage is one only in its place.
func TestOnlyTheRealUsage(t *testing.T) {
	const fake = `{"prompt_tokens":9,"completion_tokens":9,"input_tokens":9,"output_tokens":9,"promptTokenCount":9}`
	for kind := usage.KindChat; kind <= usage.KindGenerate; kind++ {
		for _, body := range []string{
			`{"choices":[{"usage":` + fake + `}],"output":[{"usage":` + fake + `}],"content":[{"usage":` + fake + `}],"candidates":[{"usageMetadata":` + fake + `}]}`,
			`{"choices":[{"message":{"content":"\"usage\":` + strings.ReplaceAll(fake, `"`, `\"`) + `"}}]}`,
			`{"metadata":{"usage":` + fake + `},"data":[{"usage":` + fake + `}],"error":{"usage":` + fake + `}}`,
			`[[` + `{"usage":` + fake + `,"usageMetadata":` + fake + `}]]`,
			`"{\"usage\":` + strings.ReplaceAll(fake, `"`, `\"`) + `}"`,
		} {
			c := readPieces(kind, "application/json", []byte(body)).Counts()
			if n, ok := c.InputTokens(); ok {
				t.Errorf("kind %d: %s: %d input tokens", kind, body, n)
			}
			if n, ok := c.OutputTokens(); ok {
				t.Errorf("kind %d: %s: %d output tokens", kind, body, n)
			}
			stream := "data: " + body + "\n\n"
			if c := readPieces(kind, "text/event-stream", []byte(stream)).Counts(); !c.Empty() && c.Source != usage.SourceProvider {
				t.Errorf("kind %d: %s: %+v", kind, stream, c)
			}
		}
	}
}

func TestBombs(t *testing.T) {
	const usageTail = `,"usage":{"prompt_tokens":5,"completion_tokens":6}}`
	deep := func(open, end string) string { return strings.Repeat(open, 1<<18) + strings.Repeat(end, 1<<18) }
	for name, body := range map[string]string{
		"depth of arrays":          `{"x":` + deep("[", "]") + usageTail,
		"depth of objects":         `{"x":` + deep(`{"usage":`, "}") + usageTail,
		"depth in a known place":   `{"choices":` + deep("[", "]") + usageTail,
		"megabytes of text":        `{"choices":[{"message":{"content":"` + strings.Repeat(`\u00e9 x`, 1<<17) + `"}}]` + usageTail,
		"a megabyte of key":        `{"` + strings.Repeat("k", 1<<20) + `":1` + usageTail,
		"a megabyte of model":      `{"model":"` + strings.Repeat("m", 1<<20) + `"` + usageTail,
		"a megabyte of number":     `{"created":` + strings.Repeat("1", 1<<20) + usageTail,
		"a megabyte of keys":       `{` + strings.Repeat(`"a":1,`, 1<<18) + `"b":2` + usageTail,
		"a megabyte of whitespace": `{"x":1` + strings.Repeat(" \n", 1<<19) + usageTail,
	} {
		r := readPieces(usage.KindChat, "application/json")
		allocated := testing.AllocsPerRun(1, func() {
			r.Reset(usage.KindChat, "application/json")
			for p := []byte(body); len(p) > 0; {
				n := min(len(p), 32<<10)
				_, _ = r.Write(p[:n])
				p = p[n:]
			}
		})
		c := r.Counts()
		n, _ := c.InputTokens()
		if k, _ := c.OutputTokens(); n != 5 || k != 6 || c.Model != "" {
			t.Errorf("%s: %d in, %d out, model %.20q", name, n, k, c.Model)
		}
		if allocated > 2 { // the copy of the body
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

// TestContentIsDecoded holds the size of a text against that which a parser makes of it.
func TestContentIsDecoded(t *testing.T) {
	for _, quoted := range []string{
		`"\u00e9\ud83d\ude00\ud83dx\n\udc00"`, `"\"\\\/\b\f\n\r\t\u000a\u007F\u0080\uFfFf"`, `"\ud83d\ud83d\ude00"`, `"\ud83d"`, `"\ud83d\n"`, `"é\u20ac"`, `""`,
	} {
		var text string
		if err := json.Unmarshal([]byte(quoted), &text); err != nil {
			t.Fatal(err)
		}
		body := []byte(`{"model":` + quoted + `,"choices":[{"text":` + quoted + `}]}`)
		for cut := range body {
			r := readPieces(usage.KindChat, "application/json", body[:cut], body[cut:])
			if n := r.ContentBytes(); n != int64(len(text)) {
				t.Fatalf("%s, cut at %d: %d bytes, want %d", quoted, cut, n, len(text))
			}
			if model := r.Counts().Model; model != text && !strings.ContainsFunc(text, unicode.IsControl) {
				t.Fatalf("%s, cut at %d: model %q, want %q", quoted, cut, model, text)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	good := `data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}` + "\n\n"
	for _, bad := range []string{
		`data: {"usage":{"prompt_tokens":9}`, `data: {"usage":{"prompt_tokens":9]}`, `data: {"usage":{"prompt_tokens":9,,}}`, `data: {"usage" 9}`,
		`data: {"usage":{"prompt_tokens":9}`, `data: }`, `data: ]]]`, "data: \x00\xff", `data: {"usage":{"prompt_tokens":9}`, `data: [DONE`, `data: "x"`,
		`data: {"usage":{"prompt_tokens`, `data: {"model":"\uzzzz","usage":{"prompt_tokens":9}}`, `usage: {"prompt_tokens":9}`, `event: x`, `:::`, `data`,
	} {
		for _, stream := range []string{good + bad + "\n\n", bad + "\n\n" + good, good + bad} {
			r := readPieces(usage.KindChat, "text/event-stream", []byte(stream))
			c := r.Counts()
			if n, _ := c.InputTokens(); n != 5 || r.Ended() {
				t.Errorf("%q: %d tokens, ended: %t", stream, n, r.Ended())
			}
		}
	}
}

// TestCutOff: a body that breaks off has told what is complete in it.
func TestCutOff(t *testing.T) {
	body := `{"id":"c","usage":{"prompt_tokens":5,"completion_tokens":6},"choices":[{"message":{"content":"Hello`
	r := readPieces(usage.KindChat, "application/json", []byte(body))
	if c := r.Counts(); !c.Final || r.Ended() || r.ContentBytes() != 5 || !r.ContentSeen() {
		t.Errorf("got %+v, %d bytes", c, r.ContentBytes())
	}
	r = readPieces(usage.KindChat, "application/json", []byte(`{"id":"c","usage":{"prompt_tokens":5,"comple`))
	c := r.Counts()
	if n, _ := c.InputTokens(); n != 5 || c.Final {
		t.Errorf("got %+v", c)
	}
}

func TestUnprintableTextsAreDropped(t *testing.T) {
	r := readPieces(usage.KindChat, "application/json", []byte(`{"model":"a\u0000b","id":"x`+"\xff"+`","service_tier":"\n","error":{"code":"a\u001bb","type":"`+strings.Repeat("é", 50)+`"}}`))
	c := r.Counts()
	kind, code, failed := r.Failed()
	if c.Model != "" || c.ResponseID != "" || c.ServiceTier != "" || code != "" || !failed {
		t.Errorf("got %+v, %q", c, code)
	}
	if kind != strings.Repeat("é", 32) {
		t.Errorf("type is %q", kind)
	}
}

func TestErrors(t *testing.T) {
	for stream, want := range map[string]string{
		`data: {"error":null}`:                                       "false",
		`data: {"error":"too slow"}`:                                 "too slow",
		`data: {"error":{"code":429,"message":"m"}}`:                 "/429",
		`data: {"error":{"type":"server_error","code":null}}`:        "server_error/",
		"event: error\ndata: {\"message\":\"x\"}":                    "/",
		"event:error\ndata: oops":                                    "/",
		`data: {"type":"error","error":{"type":"overloaded_error"}}`: "overloaded_error/",
		`data: {"x_groq":{"id":"r","error":"over_capacity"}}`:        "over_capacity/",
		"event: error\n\n":                                           "false",
	} {
		kind, code, failed := readPieces(usage.KindChat, "text/event-stream", []byte(stream+"\n\n")).Failed()
		got := strings.TrimSuffix(kind+"/"+code, map[bool]string{true: "/", false: ""}[strings.HasSuffix(stream, `slow"}`)])
		if !failed {
			got = "false"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", stream, got, want)
		}
	}
}

func TestInactive(t *testing.T) {
	for _, tc := range []struct {
		kind        usage.Kind
		contentType string
		active      bool
	}{
		{usage.KindNone, "application/json", false},
		{usage.KindNone, "text/event-stream", false},
		{200, "application/json", false},
		{usage.KindSpeech, "audio/mpeg", false},
		{usage.KindSpeech, "application/json", false},
		{usage.KindTranscripts, "text/plain; charset=utf-8", false},
		{usage.KindChat, "", true},
		{usage.KindChat, "APPLICATION/JSON; charset=utf-8", true},
		{usage.KindChat, "application/problem+json", true},
		{usage.KindChat, " Text/Event-Stream;x=y", true},
		{usage.KindOCR, "text/event-stream", false},
	} {
		r := readPieces(tc.kind, tc.contentType)
		if r.Active() != tc.active {
			t.Errorf("kind %d, %q: active: %t", tc.kind, tc.contentType, r.Active())
		}
		p := bytes.Repeat([]byte(`{"usage":{"prompt_tokens":1}}`), 2)
		if n, err := r.Write(p); n != len(p) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
		if c := r.Counts(); !tc.active && (!c.Empty() || c.Source != usage.SourceNone) {
			t.Errorf("kind %d, %q: %+v", tc.kind, tc.contentType, c)
		}
	}
}
