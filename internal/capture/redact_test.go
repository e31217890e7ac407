package capture_test

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/capture"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func same(t *testing.T, a, b string) bool {
	t.Helper()
	var v, w any
	if err := json.Unmarshal([]byte(a), &v); err != nil {
		t.Fatalf("%v in %s", err, a)
	}
	if err := json.Unmarshal([]byte(b), &w); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return reflect.DeepEqual(v, w)
}

func TestRedact(t *testing.T) {
	redact := capture.Config{Redact: []*regexp.Regexp{
		regexp.MustCompile(`[a-z]+@example\.com`), regexp.MustCompile(`example\.com/\w+`),
		regexp.MustCompile(`\b4\d{15}\b`), regexp.MustCompile(`^whole$`), regexp.MustCompile(`\b`), regexp.MustCompile(`ü+`),
	}}
	for name, tc := range map[string]struct{ in, want string }{
		"in a string":             {`{"a": "to bob@example.com, and"}`, `{"a":"to [redacted], and"}`},
		"behind escapes":          {`{"a":"\u0062ob\u0040example.com"}`, `{"a":"[redacted]"}`},
		"matches that overlap":    {`["bob@example.com/x"]`, `["[redacted]"]`},
		"in a name":               {`{"bob@example.com":1}`, `{"[redacted]":1}`},
		"in names":                {`{"b@example.com":1,"c@example.com":2,"d@example.com":{"e@example.com":3}}`, `{"[redacted]":1,"[redacted] (2)":2,"[redacted] (3)":{"[redacted]":3}}`},
		"a number":                {`[4111111111111111,41111111111111112]`, `["[redacted]",41111111111111112]`},
		"numbers stay as written": {`[1.50,1e3,-0,12345678901234567890]`, `[1.50,1e3,-0,12345678901234567890]`},
		"a string is a text":      {`["whole","no whole"]`, `["[redacted]","no whole"]`},
		"not across strings":      {`["bob@","example.com"]`, `["bob@","example.com"]`},
		"text":                    {`mail bob@example.com`, `"mail [redacted]"`},
		"JSON in a string":        {`{"arguments":"{\"to\":\"bob@example.com\"}"}`, `{"arguments":"{\"to\":\"[redacted]\"}"}`},
		"a JSON string":           {`"bob@example.com"`, `"[redacted]"`},
		"after an error":          {`{"a":"b@example.com",c@example.com`, `"{\"a\":\"[redacted]\",[redacted]"`},
		"no UTF-8":                {"[\"\xff\"]", `["�"]`},
		"names that repeat":       {`{"a":1,"a":2,"a (2)":3}`, `{"a":1,"a (2)":2,"a (2) (3)":3}`},
		"JSON lines":              {"{\"a\":\"b@example.com\"}\n{}", `"{\"a\":\"[redacted]\"}\n{}"`},
		"a scalar":                {`12`, `"12"`},
		"deep":                    {strings.Repeat("[", 20000), `"` + strings.Repeat("[", 20000) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := asked(redact, tc.in); got != tc.want {
				t.Errorf("got %.300s, want %.300s", got, tc.want)
			}
		})
	}
}

// TestRedactManyMatches: the work is bounded, and what is beyond is not let through.
func TestRedactManyMatches(t *testing.T) {
	cfg := capture.Config{Redact: []*regexp.Regexp{regexp.MustCompile(`7`)}}
	if got := asked(cfg, `["`+strings.Repeat("7.", 20_000)+`"]`); got != `["[redacted]"]` {
		t.Errorf("got %.100s", got)
	}
}

// TestRedactStream: what streaming has torn apart is found.
func TestRedactStream(t *testing.T) {
	ev := &event.Event{Endpoint: "/v1/x", Response: stream(`{"choices":[{"delta":{"content":"mail bob@exa"}}]}`, `{"choices":[{"delta":{"content":"mple.com or sk-pro"}}]}`, `{"choices":[{"delta":{"content":"j-Abc123Abc123Abc123"}}]}`)}
	capture.New(capture.Config{Redact: []*regexp.Regexp{regexp.MustCompile(`bob@example\.com`)}}).Process(ev)
	if want := `{"choices":[{"message":{"content":"mail [redacted] or [redacted]"}}]}`; ev.Response != want {
		t.Errorf("got %s", ev.Response)
	}
}

func TestSecrets(t *testing.T) {
	ours, _, err := token.Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{
		ours, "sk-Zm9vYmFyYmF6cXV4MTIzNA", "sk-0123456789abcdef0123456789abcdef", "sk-proj-Ab12_-Ab12Ab12Ab12", "sk-ant-api03-Ab12_-Ab12Ab12Ab12AA", "sk-or-v1-0123456789abcdef", "gsk_Ab12Ab12Ab12Ab12Ab12",
		"AIzaSyA1234567890abcdefghijklmnopqrstuv", "xai-Ab12Ab12Ab12Ab12Ab12", "hf_Ab12Ab12Ab12Ab12Ab12", "AKIAIOSFODNN7EXAMPLE", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw+/a=",
	} {
		for _, body := range []string{`{"a":"` + secret + `"}`, `{"key is ` + secret + `":0}`, "x=" + secret + "&y", `["\n` + secret + `."]`, `["{\"a\":\"x\\n` + secret + `\"}"]`, `{"broken":"` + secret} {
			if got := asked(capture.Config{}, body); strings.Contains(got, secret[8:]) || !strings.Contains(got, capture.Redacted) {
				t.Errorf("%s became %s", body, got)
			}
		}
		for n := range len(secret) { // cut anywhere, no more than a prefix is left
			ev := &event.Event{Request: `{"a":"` + secret[:n], RequestTruncated: true}
			capture.New(capture.Config{}).Process(ev)
			if strings.Contains(ev.Request, secret[:n]) && n > len("sk-ant-api03-") {
				t.Errorf("%d bytes of %s became %s", n, secret, ev.Request)
			}
		}
	}
	for _, harmless := range []string{"a task-management-system-for-everyone", "risk-averse-and-otherwise-careful", "sk-learn", "sk-", "xai-", "AIza", "use sk-wt-…", "disk-encryption-2-for-everybody"} {
		if got := asked(capture.Config{}, `["`+harmless+`"]`); got != `["`+harmless+`"]` {
			t.Errorf("%s became %s", harmless, got)
		}
	}
}
