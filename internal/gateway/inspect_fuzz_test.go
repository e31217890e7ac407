package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// FuzzInspect holds the scan against two other readers of JSON. What the scan
// vouches for, they must read the same way; what it refuses must be refusable.
func FuzzInspect(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"model":"m","stream":true,"user":"u","temperature":0.7}`, `{"model":"a","model":"b"}`, `{"Model":"m"}`,
		`{"\u006dodel":"\ud83d\ude00"}`, `{"\ud800":1}`, `{"model":"\ud800"}`, `{"u\u017fer":1}`, "\ufeff{}", `{"a":[{"model":"x"}]} `,
		`{"model":1e999}`, "{\"a\":\"\xff\"}", `[]`, `{"a":1}{"b":2}`, `{"a":"\\","model":"\""}`, `{"":{"":[]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		in, problem := inspectJSON(body, askedFor, nil)
		if !bytes.Equal(before, body) {
			t.Fatal("the scan changed the body")
		}
		want := referenceProblem(body)
		if problem != want {
			t.Fatalf("problem %d, want %d", problem, want)
		}
		if problem != scanOK {
			return
		}
		agree(t, in, readStd(t, body))
		agree(t, in, readV2(t, body))
	})
}

// referenceProblem judges with encoding/json what inspectJSON must say.
func referenceProblem(body []byte) scanProblem {
	if !json.Valid(body) || !utf8.Valid(body) || bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
		return scanNotJSON
	}
	checked := append([]string{memberModel, memberStream}, askedFor...)
	seen := make(map[string]int)
	problem := scanOK
	for name, value := range topLevel(body) {
		for _, c := range checked {
			switch {
			case name == c:
				if seen[c]++; seen[c] > 1 {
					problem = max(problem, scanRepeated)
				}
				if c != memberStream && hasLoneSurrogate(value) {
					return scanNotJSON
				}
			case strings.EqualFold(name, c):
				problem = max(problem, scanAmbiguous)
			}
		}
	}
	return problem
}

// topLevel iterates over all members of a valid object, repeated ones too.
func topLevel(body []byte) func(func(string, json.RawMessage) bool) {
	return func(yield func(string, json.RawMessage) bool) {
		d := json.NewDecoder(bytes.NewReader(body))
		_, _ = d.Token()
		for d.More() {
			name, _ := d.Token()
			var value json.RawMessage
			_ = d.Decode(&value)
			if !yield(name.(string), value) {
				return
			}
		}
	}
}

func hasLoneSurrogate(value json.RawMessage) bool {
	if value[0] != '"' {
		return false
	}
	_, err := jsontext.AppendUnquote(nil, []byte(value))
	return err != nil
}

func readStd(t *testing.T, body []byte) map[string]string {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("encoding/json does not read it: %v", err)
	}
	out := make(map[string]string, len(m))
	for name, value := range m {
		out[name] = string(value)
	}
	return out
}

func readV2(t *testing.T, body []byte) map[string]string {
	var m map[string]jsontext.Value
	if err := jsonv2.Unmarshal(body, &m, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		t.Fatalf("go-json-experiment does not read it: %v", err)
	}
	out := make(map[string]string, len(m))
	for name, value := range m {
		out[name] = string(value)
	}
	return out
}

// agree compares what was read with another reader's raw top-level values.
func agree(t *testing.T, in inspection, raw map[string]string) {
	t.Helper()
	if stream := raw[memberStream] == "true"; stream != in.stream {
		t.Errorf("stream is %t, want %t", in.stream, stream)
	}
	members := map[string]member{memberModel: in.model}
	for i, name := range askedFor {
		members[name] = in.params[i]
	}
	for name, m := range members {
		value, present := raw[name]
		var s string
		isString := present && value[0] == '"' && json.Unmarshal([]byte(value), &s) == nil
		switch {
		case present != m.present, isString != m.str:
			t.Errorf("%s: read %+v of %q", name, m, value)
		case isString && (s != m.text || !m.simple):
			t.Errorf("%s: read %+v, want text %q", name, m, s)
		case present && (value[0] == '{' || value[0] == '['):
			if m.simple || m.text != "" {
				t.Errorf("%s: read %+v of a structure", name, m)
			}
		case present && !isString && (!m.simple || m.text != value):
			t.Errorf("%s: read %+v, want literal %q", name, m, value)
		}
	}
}
