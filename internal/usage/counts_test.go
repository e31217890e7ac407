package usage_test

import (
	"math"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

func TestTotals(t *testing.T) {
	var c usage.Counts
	if _, ok := c.InputTokens(); ok || !c.Empty() {
		t.Error("empty counts have an input")
	}
	for i, counter := range []usage.Counter{in, read, w5, w1, out, thought, audioIn, audioO, imageIn, imageO} {
		c.Set(counter, int64(1)<<i)
	}
	for name, tc := range map[string]struct {
		total func() (int64, bool)
		want  int64
	}{
		"input":       {c.InputTokens, 1 + 2 + 4 + 8 + 64 + 256},
		"cached":      {c.CachedTokens, 2},
		"cache write": {c.CacheWriteTokens, 4 + 8},
		"output":      {c.OutputTokens, 16 + 32 + 128 + 512},
		"reasoning":   {c.ReasoningTokens, 32},
	} {
		if n, ok := tc.total(); n != tc.want || !ok {
			t.Errorf("%s: %d, %t, want %d", name, n, ok, tc.want)
		}
	}
}

func TestExplicitZeroIsPresent(t *testing.T) {
	r := readPieces(usage.KindChat, "application/json", []byte(`{"usage":{"prompt_tokens":0,"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":0}}}`))
	c := r.Counts()
	if n, ok := c.CachedTokens(); n != 0 || !ok {
		t.Errorf("cached is %d, %t", n, ok)
	}
	if _, ok := c.ReasoningTokens(); ok {
		t.Error("reasoning was not reported")
	}
	if !c.Final || c.Source != usage.SourceProvider {
		t.Errorf("a reported zero is no report: %+v", c)
	}
	if got := c.OrEstimate(4000, 4000); got != c {
		t.Errorf("a reported zero was replaced: %+v", got)
	}
}

func TestSetAndAddStayInBounds(t *testing.T) {
	var c usage.Counts
	c.Set(in, -5)
	if n, ok := c.Get(in); n != 0 || !ok {
		t.Errorf("a negative count became %d", n)
	}
	c.Set(out, math.MaxInt64)
	most, _ := c.Get(out)
	o := c
	for range 100 {
		c.Add(&o)
	}
	if n, _ := c.Get(out); n != most || n <= 0 {
		t.Errorf("the sum is %d, want %d", n, most)
	}
}

func TestAdd(t *testing.T) {
	a := usage.Counts{ResponseID: "1", Model: "m", ServiceTier: "default", Finish: usage.FinishStop, Source: usage.SourceProvider, Final: true}
	a.Set(in, 5)
	b := usage.Counts{ResponseID: "2", Finish: usage.FinishLength, Source: usage.SourceProvider}
	b.Set(in, 7)
	b.Set(out, 0)
	a.Add(&b)
	want := usage.Counts{ResponseID: "2", Model: "m", ServiceTier: "default", Finish: usage.FinishLength, Source: usage.SourceProvider}
	want.Set(in, 12)
	want.Set(out, 0)
	if a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
}

func TestEstimate(t *testing.T) {
	c := usage.Estimate(401, 8)
	if c.Source != usage.SourceEstimated || c.Final {
		t.Errorf("got %+v", c)
	}
	if n, _ := c.InputTokens(); n != 101 {
		t.Errorf("input is %d, want 101", n)
	}
	if n, _ := c.OutputTokens(); n != 2 {
		t.Errorf("output is %d, want 2", n)
	}
	if c = usage.Estimate(-1, math.MaxInt64); c.Empty() {
		t.Error("no estimate")
	}
}

// TestOrEstimate: what the provider has said is never lowered.
func TestOrEstimate(t *testing.T) {
	for name, tc := range map[string]struct {
		reported map[usage.Counter]int64
		content  int64
		in, out  int64
	}{
		"nothing reported":         {nil, 40, 25, 10},
		"input reported":           {m{in: 3, read: 4}, 40, 7, 10},
		"more output reported":     {m{in: 3, out: 20, thought: 5}, 40, 3, 25},
		"less output reported":     {m{in: 3, out: 1, thought: 5}, 40, 3, 10},
		"output of another kind":   {m{in: 3, audioO: 50}, 0, 3, 50},
		"an input of zero":         {m{in: 0}, 0, 0, 0},
		"only output is reported":  {m{out: 3}, 0, 25, 3},
		"reasoning was all so far": {m{in: 3, thought: 5}, 12, 3, 5},
	} {
		var c usage.Counts
		for counter, n := range tc.reported {
			c.Set(counter, n)
		}
		got := c.OrEstimate(100, tc.content)
		input, _ := got.InputTokens()
		output, ok := got.OutputTokens()
		if input != tc.in || output != tc.out || !ok || got.Source != usage.SourceEstimated || got.Final {
			t.Errorf("%s: %d in, %d out: %+v; want %d, %d", name, input, output, got, tc.in, tc.out)
		}
	}
}

func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	for c := usage.Input; c.String() != "unknown"; c++ {
		if c.String() == "" || seen[c.String()] {
			t.Errorf("counter %d is called %q", c, c)
		}
		seen[c.String()] = true
	}
	if len(seen) != int(usage.Pages)+1 {
		t.Errorf("%d counters have names", len(seen))
	}
	for s, want := range map[usage.Source]string{usage.SourceNone: "none", usage.SourceProvider: "provider", usage.SourceEstimated: "estimated"} {
		if s.String() != want {
			t.Errorf("%d is called %q, want %q", s, s, want)
		}
	}
	for f, want := range map[usage.Finish]string{usage.FinishNone: "", usage.FinishStop: "stop", usage.FinishOther: "other", 200: "other"} {
		if f.String() != want {
			t.Errorf("%d is called %q, want %q", f, f, want)
		}
	}
}
