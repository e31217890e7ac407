package capture_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/capture"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

func TestOmit(t *testing.T) {
	picture := strings.Repeat("iVBORw0KGgo", 200)
	short := picture[:capture.LongBase64-1]
	for name, tc := range map[string]struct{ in, want string }{
		"a form":         {"--b0undary\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b0undary--\r\n", `{"omitted":"multipart/form-data","bytes":77}`},
		"no form":        {"-- a comment\nof SQL", `"-- a comment\nof SQL"`},
		"sound":          {"ID3\x04\x00\x00\x00\x00\x00\x21", `{"omitted":"audio/mpeg","bytes":10}`},
		"a picture":      {"\x89PNG\r\n\x1a\n\x00\x00", `{"omitted":"image/png","bytes":10}`},
		"bytes":          {"abc\x00def", `{"omitted":"application/octet-stream","bytes":7}`},
		"a data URL":     {`{"url":"data:image/png;base64,` + picture + `"}`, `{"url":"data:image/png;base64,[2200 characters of base64 omitted]"}`},
		"in Markdown":    {`["![x](data:image/png;base64,` + picture + `) y"]`, `["![x](data:image/png;base64,[2200 characters of base64 omitted]) y"]`},
		"base64":         {`{"data":"` + picture + `==","b64_json":"` + short + `"}`, `{"data":"[2202 characters of base64 omitted]","b64_json":"` + short + `"}`},
		"prose":          {`["` + strings.Repeat("All happy families ", 200) + `"]`, `["` + strings.Repeat("All happy families ", 200) + `"]`},
		"other scripts":  {`["` + strings.Repeat("快樂的家庭", 300) + `"]`, `["` + strings.Repeat("快樂的家庭", 300) + `"]`},
		"nothing at all": {"", ""},
		"blank":          {" \n", `" \n"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := asked(capture.Config{}, tc.in); got != tc.want {
				t.Errorf("got %.300s, want %.300s", got, tc.want)
			}
		})
	}
}

func TestTruncated(t *testing.T) {
	picture := strings.Repeat("iVBORw0KGgo", 200)
	for in, want := range map[string]string{
		`{"messages": [{"content": "Hi\u00`: `"{\"messages\":[{\"content\": \"Hi"`,
		`{"a":{"b":[1, 2,`:                  `"{\"a\":{\"b\":[1,2,"`,
		`{"a":`:                             `"{\"a\":"`,
		`{"a`:                               `"{\"a"`,
		`{"a":"`:                            `"{\"a\":\""`,
		`{"a":"😀 \ud83d\ude`:                `"{\"a\":\"😀 "`,
		`{"a":"sk-proj`:                     `"{\"a\":\"[redacted]"`,
		`{"url":"data:image/png;base64,` + picture: `"{\"url\":\"data:image/png;base64,[2200 characters of base64 omitted]"`,
		"plain":   `"plain"`,
		"caf\xc3": `"caf"`,
		"--b\r\nContent-Disposition: form-data; name=\"file\"\r\n": `{"omitted":"multipart/form-data","bytes":9000}`,
	} {
		ev := &event.Event{Request: in, RequestTruncated: true, BytesIn: 9000}
		capture.New(capture.Config{}).Process(ev)
		if ev.Request != want || !ev.RequestTruncated {
			t.Errorf("%.100s became %s, want %s", in, ev.Request, want)
		}
	}
}

// TestMaxBody: no more is looked at, whatever the limits outside are.
func TestMaxBody(t *testing.T) {
	ev := &event.Event{Request: `["` + strings.Repeat("All happy families ", capture.MaxBody/19+1) + `"]`}
	capture.New(capture.Config{}).Process(ev)
	if !ev.RequestTruncated || len(ev.Request) > capture.MaxBody+100 {
		t.Errorf("truncated: %t, %d bytes", ev.RequestTruncated, len(ev.Request))
	}
}

// BenchmarkProcess has the inputs that take longest.
func BenchmarkProcess(b *testing.B) {
	chunks := fmt.Sprintf("data: %s\n\n", `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}`)
	for name, in := range map[string]string{
		"prose":     `["` + strings.Repeat("All happy families are alike. ", 35_000) + `"]`,
		"numbers":   "[" + strings.Repeat("0.12,", 200_000) + "1]",
		"deep":      strings.Repeat(strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+"\n", 55),
		"words":     `["` + strings.Repeat(strings.Repeat("ask-", 255)+" ", 1000) + `"]`,
		"same name": "{" + strings.Repeat(`"a":1,`, 160_000) + `"a":1}`,
		"chat":      strings.Repeat(chunks, 6000),
		"deep chat": "data: {\"choices\":[{\"delta\":" + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000) + "}]}\n\n",
		"choices":   "data: {\"choices\":[" + strings.Repeat(`{"index":1,"delta":{}},`, 40_000) + "null]}\n\n",
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				answered("/v1/x", in)
			}
		})
	}
}
