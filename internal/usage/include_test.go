package usage_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

const ask = `"stream_options":{"include_usage":true}`

func TestIncludeUsage(t *testing.T) {
	for body, want := range map[string]string{ // "" stands for left alone, "asked" for asked by the client
		`{"stream":true}`: `{` + ask + `,"stream":true}`,
		" \n{ \"model\" : \"m\",\t\"stream\" : true } \n":                                           " \n{" + ask + ", \"model\" : \"m\",\t\"stream\" : true } \n",
		`{"stream":true,"stream_options":null}`:                                                     `{"stream":true,"stream_options":{"include_usage":true}}`,
		`{"stream_options":{},"stream":true}`:                                                       `{"stream_options":{"include_usage":true},"stream":true}`,
		`{"stream_options":{ },"stream":true}`:                                                      `{"stream_options":{"include_usage":true },"stream":true}`,
		`{"stream_options":{"include_obfuscation":false},"stream":true}`:                            `{"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true}`,
		`{"stream_options":{"include_usage":false},"stream":true}`:                                  `{"stream_options":{"include_usage":true},"stream":true}`,
		`{"stream":true,"stream_options":{"a":[{"include_usage":1}],"include_usage" : null }}`:      `{"stream":true,"stream_options":{"a":[{"include_usage":1}],"include_usage" : true }}`,
		`{"stream":true,"stream_options":{"include\u005fusage":false}}`:                             `{"stream":true,"stream_options":{"include\u005fusage":true}}`,
		`{"messages":[{"content":"\"stream_options\":{}, \\"},{"stream_options":5}],"stream":true}`: `{` + ask + `,"messages":[{"content":"\"stream_options\":{}, \\"},{"stream_options":5}],"stream":true}`,
		`{"stream":true,"stream_options":{"include_usage":true}}`:                                   "asked",
		`{"stream_options":{"x":"}","include_usage":true},"stream":true}`:                           "asked",
		`{"stream":false}`: "", `{}`: "", `{"stream":"true"}`: "", `{"stream":null}`: "", `{"stream":1}`: "", `{"stream":[true]}`: "",
		`{"stream":true,"stream":true}`:                                                 "",
		`{"stream":true,"stream_options":{},"stream_options":{}}`:                       "",
		`{"stream":true,"stream_options":{},"stream\u005foptions":null}`:                "",
		`{"stream":true,"stream_options":{"include_usage":1}}`:                          "",
		`{"stream":true,"stream_options":{"include_usage":"false"}}`:                    "",
		`{"stream":true,"stream_options":{"include_usage":{}}}`:                         "",
		`{"stream":true,"stream_options":{"include_usage":true,"include_usage":false}}`: "",
		`{"stream":true,"stream_options":[]}`:                                           "",
		`{"stream":true,"stream_options":true}`:                                         "",
		`{"stream":true,"stream_options":"x"}`:                                          "",
		`[{"stream":true}]`:                                                             "", `{"stream":true}{}`: "", `{"stream":true`: "", `{"stream":true,}`: "", `{"stream" true}`: "", ``: "", `{`: "", `{"`: "", `{"\`: "",
		"\ufeff{\"stream\":true}": "", `{"stream":true} x`: "", `{"a":"x\`: "", `{"a":[`: "", `{"a":]}`: "", `{"a"`: "", `{"a":`: "", `{"stream":true,"stream_options":{]}}`: "",
	} {
		before := []byte(body)
		got, inclusion := usage.IncludeUsage(before)
		if string(before) != body {
			t.Fatalf("%s: the body was changed", body)
		}
		switch {
		case want == "" && (inclusion != usage.NotIncluded || string(got) != body):
			t.Errorf("%s: got %s (%d), want it left alone", body, got, inclusion)
		case want == "asked" && (inclusion != usage.Asked || string(got) != body):
			t.Errorf("%s: got %s (%d), want asked", body, got, inclusion)
		case want != "" && want != "asked" && (inclusion != usage.Included || string(got) != want):
			t.Errorf("%s: got %s (%d), want %s", body, got, inclusion, want)
		}
	}
}

// FuzzIncludeUsage holds the bytewise change against one made by a parser.
func FuzzIncludeUsage(f *testing.F) {
	for _, seed := range []string{
		`{"stream":true}`, `{"stream":true,"stream_options":{"include_usage":false,"x":[1]}}`, `{"stream_options":null,"stream":true}`,
		`{"stream_options":{ },"stream":true}`, `{"stream":true,"a":"\\\"","b":{"stream":false}}`, `{"stream":true,"stream":true}`, `{"\ud800":1,"stream":true}`,
		`{"stream":true,"a":[}]}`, `{"stream":true,"a":nul}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		out, inclusion := usage.IncludeUsage(body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if inclusion != usage.Included && !bytes.Equal(out, body) {
			t.Fatalf("left alone, but is now %s", out)
		}
		if !json.Valid(body) {
			if json.Valid(out) {
				t.Fatalf("made JSON of what was none: %s", out)
			}
			return
		}
		want, wantInclusion := included(t, body)
		if inclusion != wantInclusion {
			t.Fatalf("%s: inclusion %d, want %d", body, inclusion, wantInclusion)
		}
		var got any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s is no JSON: %v", out, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s became %s", body, out)
		}
	})
}

// included does with a parser what IncludeUsage does bytewise.
func included(t *testing.T, body []byte) (any, usage.Inclusion) {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatal(err)
	}
	top := repeated(body)
	object, ok := v.(map[string]any)
	if !ok || object["stream"] != true || top["stream"] != 1 || top["stream_options"] > 1 {
		return v, usage.NotIncluded
	}
	var options map[string]any
	switch o := object["stream_options"].(type) {
	case nil:
		options = make(map[string]any)
		object["stream_options"] = options
	case map[string]any:
		if repeated(exact(body, "stream_options"))["include_usage"] > 1 {
			return v, usage.NotIncluded
		}
		options = o
	default:
		return v, usage.NotIncluded
	}
	switch options["include_usage"] {
	case true:
		return v, usage.Asked
	case false, nil:
		options["include_usage"] = true
		return v, usage.Included
	}
	return v, usage.NotIncluded
}

// repeated counts the members of an object by name.
func repeated(object []byte) map[string]int {
	n := make(map[string]int)
	each(object, func(name string, _ json.RawMessage) { n[name]++ })
	return n
}

// exact is the last member of that very name.
func exact(object []byte, name string) (value json.RawMessage) {
	each(object, func(n string, v json.RawMessage) {
		if n == name {
			value = v
		}
	})
	return value
}

func each(object []byte, visit func(string, json.RawMessage)) {
	if !strings.HasPrefix(strings.TrimLeft(string(object), " \t\r\n"), "{") {
		return
	}
	d := json.NewDecoder(bytes.NewReader(object))
	_, _ = d.Token()
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return
		}
		var v json.RawMessage
		if d.Decode(&v) != nil {
			return
		}
		visit(name.(string), v)
	}
}
