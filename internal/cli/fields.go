package cli

import (
	"strconv"
	"strings"
	"time"
)

// Fields is the body of a call: members of the API by name.
type Fields map[string]any

// SetMetadata sets metadata from texts like "team=search". One empty text empties it.
func (f Fields) SetMetadata(pairs []string) error {
	metadata := make(map[string]string, len(pairs))
	if len(pairs) == 1 && pairs[0] == "" {
		f["metadata"] = metadata
		return nil
	}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return Usagef("--metadata: expected NAME=VALUE")
		}
		if _, twice := metadata[key]; twice {
			return Usagef("--metadata: %s is given twice", OneLine(key))
		}
		metadata[key] = value
	}
	f["metadata"] = metadata
	return nil
}

// Expiry is when a token shall expire, as flags say it; at most one is set.
type Expiry struct {
	Duration string
	At       string
	Never    bool
}

func (e Expiry) check() error {
	given := 0
	for _, is := range []bool{e.Duration != "", e.At != "", e.Never} {
		if is {
			given++
		}
	}
	if given > 1 {
		return Usagef("give one of --duration, --expires-at and --never")
	}
	return nil
}

// create sets the members of a new token's expiry.
func (e Expiry) create(f Fields) error {
	if e.Duration == "" {
		return e.update(f, time.Time{})
	}
	if err := e.check(); err != nil {
		return err
	}
	minutes, err := ParseMinutes("--duration", e.Duration)
	if err != nil {
		return err
	}
	if minutes < 1 {
		return Usagef("--duration: expected at least one minute")
	}
	f["duration_minutes"] = minutes
	return nil
}

// update sets the members of a changed expiry; a duration counts from now.
func (e Expiry) update(f Fields, now time.Time) error {
	if err := e.check(); err != nil {
		return err
	}
	switch {
	case e.Never:
		f["expires_at"] = nil
	case e.At != "":
		at, err := time.Parse(time.RFC3339, e.At)
		if err != nil {
			return Usagef("--expires-at: expected a time with zone, such as 2030-01-31T18:00:00Z")
		}
		f["expires_at"] = at.Format(time.RFC3339)
	case e.Duration != "":
		minutes, err := ParseMinutes("--duration", e.Duration)
		if err != nil {
			return err
		}
		if minutes < 1 {
			return Usagef("--duration: expected at least one minute")
		}
		f["expires_at"] = now.Add(time.Duration(minutes) * time.Minute).UTC().Format(time.RFC3339)
	}
	return nil
}

// maxMinutes is a hundred years: more than the API takes, and no overflow.
const maxMinutes = 100 * 365 * 24 * 60

// ParseMinutes reads a length of time in whole minutes: 30d, 12h, 90m, 1d12h, or
// a bare number of minutes.
func ParseMinutes(flag, text string) (int, error) {
	expected := Usagef("%s: expected a length of time in whole minutes, such as 30d, 12h, 90m or 1d12h", flag)
	if n, err := strconv.Atoi(text); err == nil {
		if n < 0 || n > maxMinutes {
			return 0, expected
		}
		return n, nil
	}
	var total time.Duration
	rest := text
	if days, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > maxMinutes/(24*60) {
			return 0, expected
		}
		total, rest = time.Duration(n)*24*time.Hour, after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || d > maxMinutes*time.Minute {
			return 0, expected
		}
		total += d
	}
	if text == "" || total%time.Minute != 0 || total > maxMinutes*time.Minute {
		return 0, expected
	}
	return int(total / time.Minute), nil
}
