package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "key"), filepath.Join(dir, "empty")
	for path, text := range map[string]string{file: testProviderKey + "\n", empty: "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, spec := range []string{testProviderKey, "@" + file, "-"} {
		got, err := ReadSecret("--api-key", spec, strings.NewReader(" "+testProviderKey+"\n"))
		if err != nil || got.Reveal() != testProviderKey {
			t.Errorf("%.1s: %v", spec, err)
		}
	}
	for _, spec := range []string{"", "-", "@" + empty, "CANARY key", "CANARY\x00", "CANARYé"} {
		_, err := ReadSecret("--api-key", spec, strings.NewReader(""))
		expectError(t, err, true, "secret")
	}
	_, err := ReadSecret("--api-key", "@"+file+"x", strings.NewReader(""))
	expectError(t, err, false, "--api-key", "no such file")

	t.Setenv("CLI_TEST_KEY", testProviderKey)
	if got, err := SecretFromEnv("--api-key-env", "CLI_TEST_KEY"); err != nil || got.Reveal() != testProviderKey {
		t.Error(err)
	}
	_, err = SecretFromEnv("--api-key-env", "CLI_TEST_CANARY")
	expectError(t, err, true, "not set")

	if got, err := ManagementToken(secret.NewValue("given"), file); err != nil || got.Reveal() != "given" {
		t.Error(err)
	}
	if got, err := ManagementToken(secret.Value{}, file+"x", file); err != nil || got.Reveal() != testProviderKey {
		t.Error(err)
	}
	_, err = ManagementToken(secret.Value{}, file+"x")
	expectError(t, err, false, "no management token", "MANAGEMENT_TOKEN")
	_, err = ManagementToken(secret.Value{}, dir)
	expectError(t, err, false, "reading the management token")
}

func TestParseMinutes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"0": 0, "1": 1, "1440": 1440, "90m": 90, "12h": 720, "30d": 43200, "1d12h": 2160, "1h30m": 90, "120s": 2, "0d": 0,
	} {
		if got, err := ParseMinutes("--duration", text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-1", "-1d", "-5m", "30s", "1.5d", "1d-2h", "x", "99999999999999999999", "36501d", "36500d1m", "1d1d", "5w"} {
		_, err := ParseMinutes("--duration", text)
		expectError(t, err, true, "--duration: expected a length of time")
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	f := Fields{}
	if err := f.SetMetadata([]string{"a=1", "b=", "c=x=y"}); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(f)
	if string(got) != `{"metadata":{"a":"1","b":"","c":"x=y"}}` {
		t.Errorf("got %s", got)
	}
	if err := f.SetMetadata([]string{""}); err != nil || len(f["metadata"].(map[string]string)) != 0 {
		t.Errorf("one empty text: %v, %v", f, err)
	}
	for _, pairs := range [][]string{{"a"}, {"=1"}, {"a=1", "a=2"}, {"a=1", ""}} {
		expectError(t, f.SetMetadata(pairs), true, "--metadata")
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	issued := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	text, parsed, err := token.Mint(issued)
	if err != nil {
		t.Fatal(err)
	}
	id, hidden := parsed.ID.String(), text[len(text)-49:len(text)-6]
	altered := text[:40] + map[bool]string{true: "B", false: "A"}[text[40] == 'A'] + text[41:]
	for name, c := range map[string]struct {
		text     string
		shown    []string
		expected string // error
	}{
		"token":       {" " + text + "\n", []string{id, "2026-03-04T05:06:07.000Z", "1h30m", "valid"}, ""},
		"id":          {id, []string{id, "2026-03-04T05:06:07.000Z", "absent"}, ""},
		"id in caps":  {strings.ToUpper(id), []string{id}, ""},
		"other uuid":  {"0190aaaa-0000-4000-8000-000000000000", []string{"0190aaaa"}, "not a UUIDv7"},
		"altered":     {altered, []string{id, "invalid"}, "checksum does not match"},
		"cut":         {text[:60], []string{id, "invalid"}, "has 60 characters, expected 77"},
		"very cut":    {text[:10], []string{"invalid"}, "has 10 characters"},
		"added":       {text + "x", []string{id}, "has 78 characters"},
		"alphabet":    {text[:40] + "!" + text[41:], []string{id}, "characters that tokens do not have"},
		"other":       {"hello", []string{"invalid"}, "does not begin with sk-wt-"},
		"provider's":  {testProviderKey, []string{"invalid"}, "does not begin with sk-wt-"},
		"legacy":      {"sk-0123456789abcdefghijAA", []string{"legacy", "absent"}, ""},
		"legacy id":   {"f7e00689-b6d8-88b3-b739-3d72f25defc4", []string{"f7e00689", "legacy", "absent"}, ""},
		"predecessor": {"sk-0123456789abcdefghijAB", []string{"invalid"}, "predecessor"},
		"nothing":     {" \n", []string{"invalid"}, "no token to inspect"},
	} {
		for _, asJSON := range []bool{false, true} {
			var out buffer
			err := Inspect(Output{Out: &out, Err: &out, JSON: asJSON}, c.text, issued.Add(90*time.Minute))
			if c.expected == "" && err != nil {
				t.Errorf("%s: %v", name, err)
			} else if c.expected != "" {
				expectError(t, err, false, c.expected)
			}
			if strings.Contains(out.String(), hidden) {
				t.Errorf("%s: the secret part was shown", name)
			}
			if asJSON {
				var in inspection
				if err := json.Unmarshal([]byte(out.String()), &in); err != nil || in.Checksum == "" || !strings.Contains(in.Reason, c.expected) {
					t.Errorf("%s: %s, %v", name, out.String(), err)
				}
				continue
			}
			expectText(t, out.String(), c.shown...)
		}
	}
	for age, want := range map[time.Duration]string{
		3 * time.Second: "3s", time.Hour: "1h0m", 49 * time.Hour: "2d1h", -3 * time.Minute: "3m in the future",
	} {
		if got := ageText(age); !strings.Contains(got, want) {
			t.Errorf("%s: %s", age, got)
		}
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("unplugged") }

func TestReadToken(t *testing.T) {
	t.Parallel()
	if got, err := ReadToken(strings.NewReader("\n abc \nsecond")); err != nil || strings.TrimSpace(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := ReadToken(failingReader{})
	expectError(t, err, false, "unplugged")
}

func TestKeygen(t *testing.T) {
	t.Parallel()
	var out buffer
	if err := Keygen(Output{Out: &out}); err != nil {
		t.Fatal(err)
	}
	first := out.take()
	if _, err := secret.ParseKey(strings.TrimSpace(first)); err != nil {
		t.Error(err)
	}
	if err := Keygen(Output{Out: &out, JSON: true}); err != nil {
		t.Fatal(err)
	}
	var second map[string]string
	if err := json.Unmarshal([]byte(out.take()), &second); err != nil || second["encryption_key"] == strings.TrimSpace(first) {
		t.Errorf("%v", err)
	}
}

func TestOutputIsOneSafeLine(t *testing.T) {
	t.Parallel()
	if got := OneLine(" a\r\nb\tc\x1b[2J\x07\u202ed\u0085 "); got != "a  b c[2Jd" {
		t.Errorf("got %q", got)
	}
	var out buffer
	o := Output{Out: &out, Err: &out}
	if err := o.table([]string{"A", "B"}, [][]string{{"x\ny", ""}, {"longer", "z"}}); err != nil {
		t.Fatal(err)
	}
	if got := out.take(); got != "A       B\nx y     -\nlonger  z\n" {
		t.Errorf("table:\n%s", got)
	}
	if err := o.details("name", "x\x1b", "none", "", "b", "c"); err != nil {
		t.Fatal(err)
	}
	if got := out.take(); got != "name  x\nb     c\n" {
		t.Errorf("details:\n%s", got)
	}
}
