package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	jsonv2 "github.com/go-json-experiment/json"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const text = "sk-hunter2-ABCDEFGH"

type exported struct {
	Name  string
	Value secret.Value
	Ptr   *secret.Value
}

// unexported is where fmt calls no methods and prints what it finds.
type unexported struct {
	value secret.Value
	ptr   *secret.Value
	list  []secret.Value
	any   any
}

// holders are all the ways in which a secret may reach a log.
func holders() map[string]any {
	v := secret.NewValue(text)
	return map[string]any{
		"value":             v,
		"pointer":           &v,
		"exported field":    exported{"n", v, &v},
		"pointer to struct": &exported{"n", v, &v},
		"unexported field":  unexported{v, &v, []secret.Value{v}, v},
		"its pointer":       &unexported{v, &v, []secret.Value{v}, v},
		"slice":             []secret.Value{v},
		"array":             [1]secret.Value{v},
		"map value":         map[string]secret.Value{"k": v},
		"map key":           map[secret.Value]int{v: 1},
		"interface":         []any{v, &v},
		"nested":            map[string][]*exported{"k": {{"n", v, &v}}},
	}
}

// leaks reports whether out holds the secret, as text, quoted or in hex.
func leaks(out string) bool {
	lower := strings.ToLower(out)
	return strings.Contains(out, "hunter2") || strings.Contains(lower, fmt.Sprintf("%x", "hunter2")) || strings.Contains(lower, fmt.Sprintf("% x", "hunter2")) ||
		strings.Contains(out, fmt.Sprint([]byte("hunter2"))[1:20])
}

func TestValueNeverPrintsItself(t *testing.T) {
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%p", "%t", "%w", "%U", "%08.3f", "%10v", "%!", "%[2]*[1]v", ""}
	for name, holder := range holders() {
		for _, verb := range verbs {
			if out := fmt.Sprintf(verb, holder); leaks(out) {
				t.Errorf("%s of a %s: %s", verb, name, out)
			}
			if out := fmt.Errorf("context: "+verb, holder).Error(); leaks(out) {
				t.Errorf("error with %s of a %s: %s", verb, name, out)
			}
		}
		if out := fmt.Sprint(holder) + fmt.Sprintln(holder); leaks(out) {
			t.Errorf("Sprint of a %s: %s", name, out)
		}
	}
}

func TestValueNeverMarshalsItself(t *testing.T) {
	for name, holder := range holders() {
		for codec, marshal := range map[string]func(any) ([]byte, error){
			"json": json.Marshal, "json v2": func(v any) ([]byte, error) { return jsonv2.Marshal(v) }, "xml": xml.Marshal,
		} {
			out, err := marshal(holder)
			if leaks(string(out)) || err != nil && leaks(err.Error()) {
				t.Errorf("%s of a %s: %s, %v", codec, name, out, err)
			}
		}
	}
	out, err := json.Marshal(exported{Name: "n", Value: secret.NewValue(text)})
	if err != nil || string(out) != `{"Name":"n","Value":"[redacted]","Ptr":null}` {
		t.Errorf("json = %s, %v", out, err)
	}
}

func TestValueNeverLogsItself(t *testing.T) {
	var buf bytes.Buffer
	core, logs := observer.New(zapcore.DebugLevel)
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{})
	for name, holder := range holders() {
		for _, h := range []slog.Handler{slog.NewTextHandler(&buf, nil), slog.NewJSONHandler(&buf, nil)} {
			slog.New(h).With("with", holder).Info("message", "key", holder, slog.Group("group", "key", holder))
		}
		zap.New(core).Sugar().Infow("message", "key", holder)
		for _, entry := range logs.TakeAll() {
			out, err := encoder.EncodeEntry(entry.Entry, entry.Context)
			if err != nil {
				t.Fatal(err)
			}
			buf.Write(out.Bytes())
		}
		if leaks(buf.String()) {
			t.Errorf("the log shows a %s: %s", name, buf.String())
		}
		if name == "value" && !strings.Contains(buf.String(), "[redacted]") {
			t.Errorf("the log does not say that something was left out: %s", buf.String())
		}
		buf.Reset()
	}
}

func TestValueInAPanicOrError(t *testing.T) {
	defer func() {
		if out := fmt.Sprint(recover()); leaks(out) {
			t.Errorf("recovered %s", out)
		}
	}()
	err := errors.Join(fmt.Errorf("sealing %v", secret.NewValue(text)))
	if leaks(err.Error()) {
		t.Errorf("error %v", err)
	}
	panic(secret.NewValue(text))
}

func TestValue(t *testing.T) {
	for _, tc := range []struct {
		text  string
		zero  bool
		last4 string
	}{
		{"", true, ""},
		{"x", false, ""},
		{"eleven-char", false, ""},
		{"twelve-chars", false, "hars"},
		{text, false, "EFGH"},
	} {
		v := secret.NewValue(tc.text)
		if v.Reveal() != tc.text || v.IsZero() != tc.zero || v.Last4() != tc.last4 || v.String() != "[redacted]" {
			t.Errorf("%q: Reveal %q, IsZero %v, Last4 %q, String %q", tc.text, v.Reveal(), v.IsZero(), v.Last4(), v)
		}
		if v != secret.NewValue(strings.Clone(tc.text)) || v == secret.NewValue(tc.text+"!") {
			t.Errorf("%q: values are not equal exactly when their texts are", tc.text)
		}
	}
	var zero secret.Value
	if !zero.IsZero() || zero.Reveal() != "" || zero != secret.NewValue("") {
		t.Error("the zero value is not the empty secret")
	}
}

// Values are made wherever code runs, bubbles included.
func TestValueInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if v := secret.NewValue(text + t.Name()); v.Reveal() != text+t.Name() {
			t.Error("another text")
		}
	})
}
