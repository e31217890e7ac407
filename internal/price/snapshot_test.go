package price

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSource keeps the embedded table in step with what is recorded about it, and
// with what `make prices` would fetch.
func TestSource(t *testing.T) {
	source, err := EmbeddedSource()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(embedded)
	if got := hex.EncodeToString(sum[:]); got != source.SHA256 {
		t.Errorf("prices.json.gz has the checksum %s, source.json says %s", got, source.SHA256)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"PACKAGE": source.Package, "VERSION": source.Version, "DATE": source.Date, "INTEGRITY": source.Integrity} {
		m := regexp.MustCompile(`(?m)^PRICES_` + name + ` := (.*)$`).FindSubmatch(makefile)
		if m == nil || string(m[1]) != want || want == "" {
			t.Errorf("the Makefile's PRICES_%s is %q, source.json says %q", name, m, want)
		}
	}
	if _, err := time.Parse(time.DateOnly, source.Date); err != nil {
		t.Error(err)
	}
	if source.Licence != "MIT" || !strings.Contains(Licence(), "MIT License") || !strings.Contains(Licence(), "Copyright (c) Pydantic") {
		t.Errorf("licence %s:\n%s", source.Licence, Licence())
	}
	if len(embedded) > 200_000 {
		t.Errorf("%d bytes are embedded", len(embedded))
	}
	unpack, err := gzip.NewReader(bytes.NewReader(embedded))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unpack)
	if err != nil {
		t.Fatal(err)
	}
	providers, models, err := CheckSnapshot(data)
	if err != nil || providers != source.Providers || models != source.Models || models < 1000 {
		t.Errorf("%d providers, %d models, error %v; source.json says %d, %d", providers, models, err, source.Providers, source.Models)
	}
}

// TestSnapshotIsSound looks for what would be a mistake in the data.
func TestSnapshotIsSound(t *testing.T) {
	s, err := loadEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	for kind, id := range snapshotIDs {
		if s.providers[id] == nil {
			t.Errorf("%s: %s is not in the snapshot", kind, id)
		}
	}
	for _, p := range s.providers {
		for _, m := range p.Models {
			for _, period := range m.periods {
				known := 0
				for c, r := range period.value {
					if r.known {
						known++
					}
					for i := range r.steps {
						if below := r.at(r.steps[i].above); r.steps[i].rate < below {
							t.Errorf("%s %s: %s is cheaper above %d", p.ID, m.ID, rateName(counter(c)), r.steps[i].above)
						}
					}
				}
				if known == 0 {
					t.Errorf("%s %s: a period without a price", p.ID, m.ID)
				}
			}
		}
	}
	if m := s.find("groq", "whisper-large-v3"); m == nil || m.limits.minAudioMillis != 10_000 {
		t.Error("groq's minimum is lost")
	}
}

func TestSnapshotErrors(t *testing.T) {
	model := func(m string) string { return `[{"id":"p","models":[` + m + `]}]` }
	rule := func(r string) string { return model(`{"id":"m","match":` + r + `,"prices":[]}`) }
	prices := func(p string) string { return model(`{"id":"m","match":{"equals":"m"},"prices":[` + p + `]}`) }
	for text, want := range map[string]string{
		`{}`:    "cannot unmarshal",
		`[] []`: "more follows",
		`[{"id":"p","models":[]},{"id":"p","models":[]}]`:           "appears twice",
		`[{"id":"p","models":[],"fallback_model_providers":["q"]}]`: "q, which is not there",
		`[{"id":"p","models":[],"new":1}]`:                          "unknown field",
		rule(`{}`):                                                  "exactly one rule",
		rule(`{"equals":"a","contains":"b"}`):                       "exactly one rule",
		rule(`{"or":[{"regex":"("}]}`):                              "missing closing",
		rule(`{"not":{"and":[{}]}}`):                                "exactly one rule",
		rule(strings.Repeat(`{"not":`, 20) + `{"equals":"a"}` + strings.Repeat(`}`, 20)): "too deeply",
		rule(`{"glob":"*"}`):                                                                                 "unknown field",
		prices(`{"prices":{"input_parsecs":1}}`):                                                             "unknown kind of price",
		prices(`{"prices":{"input_mtok":-1}}`):                                                               "must not be negative",
		prices(`{"prices":{"input_mtok":0.0833333333333333}}`):                                               "decimal places",
		prices(`{"prices":{"input_mtok":{"base":1,"tiers":[{"start":5,"price":2,"x":1}]}}}`):                 "unknown field",
		prices(`{"prices":{"input_mtok":{"base":1,"tiers":[{"start":0.5,"price":2}]}}}`):                     "number of tokens",
		prices(`{"prices":{"input_mtok":{"base":1,"tiers":[{"start":5,"price":-2}]}}}`):                      "must not be negative",
		prices(`{"prices":{"input_mtok":{"base":1,"tiers":[{"start":5,"price":2},{"start":5,"price":3}]}}}`): "appears twice",
		prices(`{"prices":{"requests_kcount":{"base":1,"tiers":[{"start":5,"price":2}]}}}`):                  "only prices of tokens",
		prices(`{"constraint":{"type":"moon"},"prices":{}}`):                                                 "unknown constraint",
		prices(`{"constraint":{"type":"start_date","start_date":"soon"},"prices":{}}`):                       "start_date",
		prices(`{"constraint":{"type":"time_of_date","start_time":"1","end_time":"2"},"prices":{}}`):         "time of day",
		model(`{"id":"m","match":{"equals":"m"},"context_window":-1,"prices":[]}`):                           "context_window",
	} {
		if _, _, err := CheckSnapshot([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestMatch(t *testing.T) {
	data := `[{"id":"p","models":[
		{"id":"a","match":{"and":[{"starts_with":"Al"},{"ends_with":"PHA"},{"contains":"-"},{"not":{"equals":"al-no-pha"}}]},"prices":[{"prices":{"input_mtok":1}}]},
		{"id":"b","match":{"or":[{"regex":"^B\\d$"},{"equals":"bee"}]},"prices":[{"prices":{"input_mtok":2}}]}]}]`
	providers, err := parseSnapshot([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	s := snapshot{providers: providers}
	for model, want := range map[string]string{
		"al-pha": "a", "AL-x-PHA": "a", "alpha": "", "al-no-pha": "", "x-al-pha": "", "B1": "b", "b1": "", "BEE": "b", "bees": "",
	} {
		got := ""
		if m := s.find("p", model); m != nil {
			got = m.ID
		}
		if got != want {
			t.Errorf("%s: %q, want %q", model, got, want)
		}
	}
}

func TestConstraints(t *testing.T) {
	span := func(from, to string) *constraint {
		c := &constraint{Type: "time_of_date", StartTime: from, EndTime: to}
		if err := c.compile(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	since := func(date string) *constraint {
		c := &constraint{Type: "start_date", StartDate: date}
		if err := c.compile(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, tc := range []struct {
		c    *constraint
		at   string
		want bool
	}{
		{span("23:00:00Z", "01:00:00Z"), "2026-01-01T23:00:00Z", true},
		{span("23:00:00Z", "01:00:00Z"), "2026-01-01T00:59:59Z", true},
		{span("23:00:00Z", "01:00:00Z"), "2026-01-01T01:00:00Z", false},
		{span("01:30:00+02:00", "02:00:00.5+02:00"), "2026-01-01T23:30:00Z", true},
		{span("01:30:00+02:00", "02:00:00.5+02:00"), "2026-01-01T00:00:00.4Z", true},
		{span("01:30:00+02:00", "02:00:00.5+02:00"), "2026-01-01T00:00:00.6Z", false},
		{since("2026-01-01"), "2026-01-01T00:00:00+01:00", false},
		{since("2026-01-01T12:00:00Z"), "2026-01-01T12:00:00Z", true},
		{nil, "2026-01-01T12:00:00Z", true},
	} {
		at, err := time.Parse(time.RFC3339Nano, tc.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := tc.c.holds(at); got != tc.want {
			t.Errorf("%+v at %s: %v", tc.c, tc.at, got)
		}
	}
}
