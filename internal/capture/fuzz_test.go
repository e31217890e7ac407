package capture_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sofatutor/caddy-llm-proxy/internal/capture"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// FuzzProcess: whatever clients and providers send, what is stored is an object, an array or a
// string that every reader takes, and holds nothing that was to be left out.
func FuzzProcess(f *testing.F) {
	files, err := filepath.Glob("../usage/testdata/*")
	if err != nil || len(files) == 0 {
		f.Fatal("no answers to begin with", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(body), false, strings.Contains(file, "array"))
		f.Add(string(body[:len(body)/2]), true, strings.Contains(file, "array"))
	}
	f.Add(`{"forbidden":"\u0066orbidden","a":[1,"sk-wt-0123456789"]}`, false, false)
	f.Add("data: {\"choices\":[null,{\"delta\":{\"content\":\"forb\"}},{\"delta\":{\"content\":\"idden\"}}]}\n\n", false, false)
	p := capture.New(capture.Config{Redact: []*regexp.Regexp{regexp.MustCompile(`forbidden`), regexp.MustCompile(`\d{6,}`)}})
	f.Fuzz(func(t *testing.T, in string, cut, array bool) {
		ev := &event.Event{Request: in, Response: in, RequestTruncated: cut, ResponseTruncated: cut, Endpoint: "/v1/x"}
		if array {
			ev.Endpoint = "/v1beta/models/m:streamGenerateContent"
		}
		p.Process(ev)
		for _, got := range []string{ev.Request, ev.Response} {
			if in == "" && got == "" {
				continue
			}
			if !jsontext.Value(got).IsValid() || !utf8.ValidString(got) || !strings.ContainsRune(`{["`, rune(got[0])) {
				t.Fatalf("%q became %q", in, got)
			}
			var v any
			if err := json.Unmarshal([]byte(got), &v); err != nil {
				t.Fatal(err)
			}
			walk(v, func(s string) {
				if strings.Contains(s, "forbidden") {
					t.Fatalf("%q became %q", in, got)
				}
			})
		}
		again := *ev
		again.RequestTruncated, again.ResponseTruncated = false, false
		p.Process(&again)
		if again.Request != ev.Request {
			t.Fatalf("%q became %q, and then %q", in, ev.Request, again.Request)
		}
	})
}

func walk(v any, visit func(string)) {
	switch v := v.(type) {
	case string:
		visit(v)
	case []any:
		for _, e := range v {
			walk(e, visit)
		}
	case map[string]any:
		for k, e := range v {
			visit(k)
			walk(e, visit)
		}
	}
}
