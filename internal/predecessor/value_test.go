package predecessor

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseTime(t *testing.T) {
	noon := time.Date(2025, 3, 4, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2025-03-04 12:00:00":                       noon,
		"2025-03-04 12:00":                          noon,
		"2025-03-04T12:00":                          noon,
		"2025-03-04T12:00:00Z":                      noon,
		" 2025-03-04T12:00:00Z ":                    noon,
		"2025-03-04 14:00:00+02:00":                 noon,
		"2025-03-04T14:00:00+02:00":                 noon,
		"2025-03-04 06:30:00.123456789-05:30":       noon.Add(123456 * time.Microsecond),
		"2025-03-04 12:00:00.1":                     noon.Add(100 * time.Millisecond),
		"2025-03-04 12:00:00+00":                    noon,
		"2025-03-04 14:00:00+0200":                  noon,
		"2025-03-04 13:00:00.000000001 +0100 CET":   noon,
		"2025-03-04 13:00:00 +0100 CET m=+3600.123": noon,
		"2025-03-04 12:00:00 +0000 UTC":             noon,
		"2025-03-04 13:00:00 +0100 +0100":           noon,
		"2025-03-04":                                noon.Add(-12 * time.Hour),
		"1741089600":                                noon,
		"1741089600000":                             noon,
		"0001-01-01 00:00:00+00:00":                 {},
	} {
		got, err := parseTime(text)
		if err != nil || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "infinity", "-infinity", "soon", "2025-13-01 00:00:00", "2025-03-04 25:00:00", "12:00", "99999999999999999", "10000-01-01 00:00:00", "1.7e9"} {
		if got, err := parseTime(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// lastMicros is a day before the year 10000, which no layout fits, in any zone.
const lastMicros = 253402214400_000000

// Whatever offset a time was written with, it is the same moment.
func TestParseTimeOfAnyOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(0, lastMicros).Draw(t, "micros"))
		zone := time.FixedZone("", rapid.IntRange(-14*60, 14*60).Draw(t, "minutes")*60)
		layout := rapid.SampledFrom([]string{"2006-01-02 15:04:05.999999999-07:00", "2006-01-02T15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999 -0700 -0700"}).Draw(t, "layout")
		local := at.In(zone)
		if got, err := parseTime(local.Format(layout)); err != nil || !got.Equal(at) {
			t.Fatalf("%s is %v, %v; want %v", local.Format(layout), got, err, at)
		}
	})
}

func TestParseBool(t *testing.T) {
	for text, want := range map[string]bool{"1": true, "0": false, "true": true, "false": false, "t": true, "F": false, "TRUE": true, " 1 ": true} {
		if got, err := parseBool("c", &text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "2", "yes", "null", "-1"} {
		if got, err := parseBool("c", &text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if _, err := parseBool("c", nil); err == nil {
		t.Error("NULL is a flag")
	}
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"2025-03-04 12:00:00.5+02:00", "1741089600", "2025-03-04 13:00:00 +0100 CET m=+1", "", "infinity"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseTime(text)
		if err != nil {
			return
		}
		again, err := parseTime(at.Format("2006-01-02 15:04:05.999999999-07:00"))
		if err != nil || !again.Equal(at) || !time.UnixMicro(at.UnixMicro()).Equal(at) {
			t.Fatalf("%q is %v, which is read as %v, %v", text, at, again, err)
		}
	})
}
