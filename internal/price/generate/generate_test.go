package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script is a package's, in small: all that its table has, and what follows it.
const script = `const E = [
  {
    id: "openai", name: "OpenAI",
    extractors: [{ root: "usage", required: !0, optional: !1, nothing: null }],
    models: [
      {
        id: "gpt-4o",
        description: ` + "`Two lines\\nand a \\u00e9.`" + `,
        match: { or: [{ equals: "gpt-4o" }, { regex: "^gpt-4o-\\d{4}$" }] },
        context_window: 128e3,
        prices: [
          { prices: { input_mtok: { base: 2.5, tiers: [{ start: 2e5, price: 5 }] }, output_mtok: .08333333333333334 } },
          { constraint: { start_date: "2026-01-01", type: "start_date" }, prices: { input_mtok: 1 } }
        ]
      },
      { id: "free", match: { equals: "free" }, prices: {} }
    ]
  },
  {
    id: "groq", fallback_model_providers: ["openai"],
    models: [{ id: "whisper-large-v3", match: { and: [{ contains: "whisper" }, { regex: "^(?!.*-[tT][tT][sS](?:$|-))" }] }, prices: { audio_hours: 0.111 } }]
  }
], J = { more: 1 };
class Y { #a; }
`

// pack makes a package as npm would, and its integrity.
func packed(t *testing.T, files map[string]string) (path, integrity string) {
	t.Helper()
	var b bytes.Buffer
	compress := gzip.NewWriter(&b)
	archive := tar.NewWriter(compress)
	for name, content := range files {
		if err := archive.WriteHeader(&tar.Header{Name: "package/" + name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := compress.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "package.tgz")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(b.Bytes())
	return path, "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func files(script string) map[string]string {
	return map[string]string{
		"package.json":  `{"name": "@acme/prices", "version": "1.2.3", "license": "MIT"}`,
		"LICENSE":       "The MIT License (MIT)\n",
		"dist/index.js": script,
		"dist/other.js": "ignored",
	}
}

func TestGenerate(t *testing.T) {
	path, integrity := packed(t, files(script))
	out := t.TempDir()
	source, err := generate(path, integrity, "2026-01-02", out)
	if err != nil {
		t.Fatal(err)
	}
	if source.Version != "1.2.3" || source.Package != "@acme/prices" || source.Providers != 2 || source.Models != 3 || source.Date != "2026-01-02" {
		t.Errorf("%+v", source)
	}
	data, err := os.ReadFile(filepath.Join(out, "prices.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	unpack, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if _, err := table.ReadFrom(unpack); err != nil {
		t.Fatal(err)
	}
	const want = `[{"id":"openai","models":[` +
		`{"context_window":128e3,"id":"gpt-4o","match":{"or":[{"equals":"gpt-4o"},{"regex":"^gpt-4o-\\d{4}$"}]},"prices":[` +
		`{"prices":{"input_mtok":{"base":2.5,"tiers":[{"price":5,"start":200000}]},"output_mtok":0.083333333333}},` +
		`{"constraint":{"start_date":"2026-01-01","type":"start_date"},"prices":{"input_mtok":1}}]},` +
		`{"id":"free","match":{"equals":"free"},"prices":[]}]},` +
		`{"fallback_model_providers":["openai"],"id":"groq","models":[` +
		`{"id":"whisper-large-v3","match":{"and":[{"contains":"whisper"},{"not":{"regex":"^(?:.*-[tT][tT][sS](?:$|-))"}}]},"min_audio_millis":10000,"prices":[{"prices":{"audio_hours":0.111}}]}]}]`
	if table.String() != want {
		t.Errorf("table\n%s\nwant\n%s", table.String(), want)
	}
	again := t.TempDir()
	if _, err := generate(path, integrity, "2026-01-02", again); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"prices.json.gz", "source.json", "LICENSE"} {
		a, errA := os.ReadFile(filepath.Join(out, name))
		b, errB := os.ReadFile(filepath.Join(again, name))
		if errA != nil || errB != nil || len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s differs at the second time: %v, %v", name, errA, errB)
		}
	}
}

func TestGenerateErrors(t *testing.T) {
	model := func(m string) string { return `const E = [{ id: "p", models: [` + m + `] }];` }
	for text, want := range map[string]string{
		"":                             "expected dist/index.js",
		"export { x };":                "does not begin with the table",
		"const E = {};":                "begins with something else",
		"const E = [\n\n{ id: f() }];": "line 3",
		"const E = [{ id: `${x}` }];":  "not a literal",
		"const E = [1];":               "expected an object",
		`const E = [{ id: "p" }];`:     "models: expected an array",
		model(`{ id: "m", match: { equals: "m" }, prices: { input_parsecs: 1 } }`):     "p > m: input_parsecs: unknown kind of price",
		model(`{ id: "m", match: { equals: "m" }, prices: 5 }`):                        "p > m > prices: expected an object",
		model(`{ id: "m", match: "m", prices: {} }`):                                   "p > m > match: expected an object",
		model(`{ id: "m", match: { regex: "a(?!b)" }, prices: {} }`):                   "p > m > match: ",
		model(`{ id: "m", match: { or: [{ regex: "^(?!a)b(c)" }] }, prices: {} }`):     "p > m > match: ",
		model(`{ id: "m", match: { equals: "m" }, prices: [{ when: 1, prices: 1 }] }`): "prices: expected an object",
		model(`{ id: "m", match: { equals: "m" }, prices: { input_mtok: "free" } }`):   "invalid number literal",
		model(`{ id: "m", match: { equals: "m" }, context_window: 1.5, prices: {} }`):  "context_window",
		model(`{ id: "m", match: { startswith: "m" }, prices: {} }`):                   "unknown field",
		`const E = [{ id: "p", fallback_model_providers: ["q"], models: [] }];`:        "q, which is not there",
	} {
		path, integrity := packed(t, files(text))
		if _, err := generate(path, integrity, "2026-01-02", t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	path, integrity := packed(t, files(script))
	if _, err := generate(path, integrity+"x", "2026-01-02", t.TempDir()); err == nil || !strings.Contains(err.Error(), "has the integrity sha512-") {
		t.Errorf("another package: %v", err)
	}
	if _, err := generate(path, integrity, "2026-01-02", filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that does not exist")
	}
	other := files(script)
	other["package.json"] = `{"name": "x", "version": "1", "license": "UNLICENSED"}`
	path, integrity = packed(t, other)
	if _, err := generate(path, integrity, "2026-01-02", t.TempDir()); err == nil || !strings.Contains(err.Error(), "licence MIT") {
		t.Errorf("another licence: %v", err)
	}
}

func TestParseLiteral(t *testing.T) {
	for text, want := range map[string]string{
		`{a: 1, "b-c": 'd"', _e$2: [1.50, -2, .5, 2e5,], f: {}, g: !0, h: !1, i: null, j: true, k: false,} rest`: `{"_e$2":[1.50,-2,0.5,2e5],"a":1,"b-c":"d\"","f":{},"g":true,"h":false,"i":null,"j":true,"k":false}`,
		`"\n\t\b\f\\\"\'\x41\u00e9\/\$"`: `"\n\t\b\f\\\"'Aé/$"`,
		"`a\n\\`$b`":                     `"a\n` + "`" + `$b"`,
	} {
		value, rest, err := parseLiteral([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := json.Marshal(value)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, want %s (%v)", text, got, want, err)
		}
		if strings.HasSuffix(text, " rest") != (string(rest) == " rest") {
			t.Errorf("%s: left %q", text, rest)
		}
	}
	for _, text := range []string{
		``, `{`, `[`, `[1`, `[1 2]`, `{a}`, `{a:1 b:2}`, `{1+1: 2}`, `{a:1,a:2}`, `"a`, "\"a\nb\"", `"\q"`, `"\u12`, `"\uzzzz"`, `"\ud800"`, "\"\xff\"", `"\`,
		`01`, `1.2.3`, `-`, `!2`, `undefined`, `void 0`, `f(1)`, `{a:f}`, "`${a}`", strings.Repeat("[", 100) + strings.Repeat("]", 100),
	} {
		if value, _, err := parseLiteral([]byte(text)); err == nil {
			t.Errorf("%s is read as %v", text, value)
		}
	}
}

// FuzzParseLiteral: what is accepted can be written as JSON and read again.
func FuzzParseLiteral(f *testing.F) {
	f.Add(`[{id:"p",b:{or:[{regex:"^a\\d"}]},c:2e5,},null]`)
	f.Add("{a:[1,'x',`y`,!0,{b:.5}]}")
	f.Fuzz(func(t *testing.T, text string) {
		value, rest, err := parseLiteral([]byte(text))
		if err != nil {
			return
		}
		if !strings.HasSuffix(text, string(rest)) {
			t.Fatalf("%q is not the end of %q", rest, text)
		}
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, _, err := parseLiteral(data)
		if err != nil {
			t.Fatalf("%q, as JSON %s: %v", text, data, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(data, twice) {
			t.Errorf("%s is read as %s (%v)", data, twice, err)
		}
	})
}
