package main

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// TestQuick runs the program as its users do, so that it never rots. It
// asserts nothing about time.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // a PostgreSQL server of root's runs as somebody else
		t.Fatal(err)
	}
	bench, caddy, report := filepath.Join(dir, "bench"), filepath.Join(dir, "llm-proxy"), filepath.Join(dir, "RESULTS.md")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	command := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "TMPDIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	programs := []string{"build", "-o", dir + "/", "."}
	if made := os.Getenv("LLM_PROXY_TEST_BINARY"); made != "" {
		caddy = made
	} else {
		programs = append(programs, "../caddymodule/llm-proxy")
	}
	command("go", programs...)
	// Pieces are benchmarks of other packages, which are built for it: see TestPieces.
	names := strings.Join(slices.DeleteFunc(measurementNames(), func(name string) bool { return name == "pieces" }), ",")
	printed := command(bench, "-quick", "-run", names, "-conns", "4", "-caddy", caddy, "-out", report)

	written, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(printed, string(written)) {
		t.Error("what is written is not what is printed")
	}
	command(bench, "-quick", "-run", "latency", "-conns", "1", "-caddy", caddy, "-out", report)
	again, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	before, after := splitSections(string(written)), splitSections(string(again))
	for i, text := range before {
		if same := i < len(after) && after[i] == text; same == (sectionKey(text) == "(d)") {
			t.Errorf("section %s after a run that measured (d) alone: unchanged is %v", sectionKey(text), same)
		}
	}
	for _, want := range []string{
		"## (a) ", "provider with HTTP/1.1 ", "provider with TLS HTTP/2 ", "≥ 1.35: ", "## (b) ", "cache hit ÷ respond, body alone ", "≥ 0.85: ", "## (c) ", "wrong secret ÷ respond 401 ",
		"## (d) ", "| llm_proxy − no proxy ", "## (e) ", "paced frame/s: min", "## (f) ", "rates, in Redis ÷ no limits ", "budget and quota − no limits ", "| 1 connection ", "Caddy v2.", "bench -quick",
		"## (h) ", "PostgreSQL, 4,000 ÷ 1,000 tokens", "## (i) ", "SQLite, end ÷ start", "## (j) ", "| PostgreSQL, unknown tokens ÷ no storm ",
		"## (k) ", "never answers ÷ no sink ", "≤ 1.1: ", "## (l) ", "≥ 100,000: ",
	} {
		if !strings.Contains(string(written), want) {
			t.Errorf("the report lacks %q:\n%s", want, written)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "llm-proxy-bench-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{{"-run", "miss,misses"}, {"-rounds", "0"}, {"-seconds", "0"}, {"-conns", "0"}, {"-tokens", "10"}, {"more"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	o, err := parseOptions([]string{"-run", "latency, miss"})
	if err != nil || !slices.Equal(o.names(), []string{"latency", "miss"}) {
		t.Errorf("got %v, %v", o.names(), err)
	}
	var planned time.Duration
	for _, m := range measurements {
		planned += m.planned(o)
	}
	if planned > 15*time.Minute {
		t.Errorf("the defaults take %s; they must stay below a quarter of an hour", planned)
	}
}

func TestMeasurementNames(t *testing.T) {
	for i, m := range measurements {
		if names := measurementNames(); i >= len(names) || names[i] != m.name {
			t.Errorf("%s is not among %v in this order", m.name, names)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{4, 1}, spread{1, 2.5, 4}},
		{[]float64{9, 1, 5}, spread{1, 5, 9}},
		{[]float64{4, 3, 2, 1}, spread{1, 2.5, 4}},
	} {
		if got := spreadOf(tc.values); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.values, got, tc.want)
		}
	}
	for _, values := range [][]float64{nil, {1, math.NaN()}} {
		if got := spreadOf(values); !math.IsNaN(got.median) {
			t.Errorf("%v: %v", values, got)
		}
	}
	if got := over([]float64{2, 9, 4}, []float64{1, 3, 4}, ratio); got != (spread{1, 2, 3}) {
		t.Errorf("ratios are not taken inside rounds: %v", got)
	}
	if got := measured(ratio(0, 0), twoDigits); got != "–" {
		t.Errorf("an unmeasured ratio is shown as %s", got)
	}
}

func TestPercentile(t *testing.T) {
	var values []time.Duration
	for i := 100; i > 0; i-- {
		values = append(values, time.Duration(i)*time.Microsecond)
	}
	for p, want := range map[float64]float64{50: 50, 99: 99, 100: 100, 0: 1} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%v: %v, want %v", p, got, want)
		}
	}
	if got := percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestFormats(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	tab := table{columns: []string{"Ä", "x"}}
	tab.add("long cell", "1")
	if got, want := tab.markdown(), "| Ä         |   x |\n| --------- | --: |\n| long cell |   1 |\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestCPUList(t *testing.T) {
	for list, want := range map[string][]int{"0": {0}, "0-2,5": {0, 1, 2, 5}, "": nil, "x": nil} {
		if got := parseCPUList(list); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", list, got, want)
		}
	}
}

// TestRefusedTokens: each token is refused for the reason that it stands for.
func TestRefusedTokens(t *testing.T) {
	valid, secret, err := token.Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Parse(malformedToken(valid)); err == nil {
		t.Error("the malformed token is well-formed")
	}
	text, err := wrongSecret(valid)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := token.Parse(text)
	if err != nil || wrong.ID != secret.ID || wrong == secret {
		t.Errorf("%v: not the same id with another secret", err)
	}
}

// TestClient talks to the plain provider, in whole answers and in chunks.
func TestClient(t *testing.T) {
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- servePlainConn(far) }()
	c := newClient(near)
	for _, tc := range []struct {
		request        []byte
		status, length int
	}{
		{chatRequest("h", providerKey, whole), 200, len(answerBody)},
		{chatRequest("h", providerKey, stream), 200, streamLength},
		{chatRequest("h", providerKey, short), 200, shortLength},
		{chatRequest("h", "sk-other", whole), 401, 2},
		{chatRequest("h", providerKey, whole), 200, len(answerBody)},
	} {
		a, err := c.do(tc.request)
		if err != nil || a.status != tc.status || a.length != tc.length {
			t.Errorf("%d with %d bytes, %v; want %d with %d", a.status, a.length, err, tc.status, tc.length)
		}
	}
	// A header line that a target wants to see is looked for in every answer.
	for _, mark := range []string{"cf-cache-status: dyn", "cf-cache-status: hit", "dat"} {
		c.mark = mark
		a, err := c.do(chatRequest("h", providerKey, whole))
		err = errors.Join(err, (&target{status: 200, length: len(answerBody), mark: mark}).check(a))
		if there := mark != "cf-cache-status: hit"; (err == nil) != there {
			t.Errorf("%q is there: %v; %v", mark, there, err)
		}
	}
	if err := near.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

func TestClientRefusesNonsense(t *testing.T) {
	for _, text := range []string{
		"SSH-2.0-OpenSSH\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nbody", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbod",
	} {
		near, far := net.Pipe()
		go func() {
			c := newClient(far)
			_, _, _ = c.readRequest()
			_, _ = far.Write([]byte(text))
			_ = far.Close()
		}()
		if a, err := newClient(near).do(chatRequest("h", "k", whole)); err == nil {
			t.Errorf("%q was taken for an answer: %+v", text, a)
		}
		_ = near.Close()
	}
	if !bytes.HasSuffix(chatRequest("h", "k", short), []byte(question(short))) {
		t.Error("a request does not end with its body")
	}
}
