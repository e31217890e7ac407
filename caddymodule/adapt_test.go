package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"
)

var update = flag.Bool("update", false, "rewrite the expected part of testdata/adapt")

const separator = "----------\n"

// TestAdapt holds Caddyfiles against the JSON, or the error, that they adapt
// to: testdata/adapt/*.caddyfiletest, Caddyfile and expectation separated by dashes.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d files, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, found := strings.Cut(string(data), separator)
			if !found {
				t.Fatal("no line of ten dashes")
			}
			got := adapt(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(input+separator+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("adapts to\n%s\nwant\n%s", got, want)
			}
			if isError := strings.HasPrefix(filepath.Base(file), "error_"); isError != !strings.HasPrefix(got, "{") {
				t.Errorf("error files must be named error_*: got\n%s", got)
			}
		})
	}
}

// adapt returns indented JSON or the error's text.
func adapt(t *testing.T, input string) string {
	t.Helper()
	adapter := caddyconfig.GetAdapter("caddyfile")
	out, warnings, err := adapter.Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error() + "\n"
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			t.Errorf("warning: %s", w)
		}
	}
	var b bytes.Buffer
	if err := json.Indent(&b, out, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

// FuzzCaddyfile feeds the blocks of both directives and the global option:
// whatever is written there, the parsers answer with a configuration or an error.
func FuzzCaddyfile(f *testing.F) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(data), separator)
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input string) {
		for _, parse := range []func(*caddyfile.Dispenser) error{
			func(d *caddyfile.Dispenser) error { _, err := parseGlobalOption(d, nil); return err },
			func(d *caddyfile.Dispenser) error { return new(Handler).UnmarshalCaddyfile(d) },
			func(d *caddyfile.Dispenser) error { return new(Admin).UnmarshalCaddyfile(d) },
			func(d *caddyfile.Dispenser) error { return new(CertStorage).UnmarshalCaddyfile(d) },
		} {
			if err := parse(caddyfile.NewTestDispenser("llm_proxy {\n" + input + "\n}")); err != nil && err.Error() == "" {
				t.Error("an error without a text")
			}
		}
	})
}
