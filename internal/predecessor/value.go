package predecessor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"
)

// timeLayouts are those that SQLite drivers, PostgreSQL and Go itself write. What
// names no zone is UTC.
var timeLayouts = []string{
	"2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02T15:04:05.999999999Z07:00",
	"2006-01-02 15:04:05.999999999Z07",
	"2006-01-02 15:04:05.999999999Z0700",
	"2006-01-02T15:04:05.999999999Z0700",
	"2006-01-02 15:04:05.999999999 -0700 MST",
	"2006-01-02 15:04:05.999999999 -0700 -0700",
	"2006-01-02 15:04:05.999999999",
	"2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04Z07:00",
	"2006-01-02T15:04Z07:00",
	"2006-01-02 15:04",
	"2006-01-02T15:04",
	"2006-01-02",
}

// maxSeconds is the largest number that is seconds; larger ones are milliseconds.
const maxSeconds = 1e11

// parseTime reads a time in whatever way it was written.
func parseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n > maxSeconds || n < -maxSeconds {
			return checkTime(time.UnixMilli(n))
		}
		return checkTime(time.Unix(n, 0))
	}
	s, _, _ = strings.Cut(s, " m=") // the monotonic clock, as Go prints it
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return checkTime(t)
		}
	}
	return time.Time{}, errors.New("it is not a time")
}

// checkTime keeps to years that every database can store.
func checkTime(t time.Time) (time.Time, error) {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, errors.New("its year is out of range")
	}
	return t, nil
}

// optionalTime reads a time that may be absent.
func optionalTime(column string, value *string) (*time.Time, error) {
	if value == nil {
		return nil, nil
	}
	t, err := parseTime(*value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", column, err)
	}
	return &t, nil
}

// parseBool reads a flag. One that is absent or unclear is an error, since access
// hangs on it.
func parseBool(column string, value *string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text(value))) {
	case "1", "t", "true":
		return true, nil
	case "0", "f", "false":
		return false, nil
	}
	return false, fmt.Errorf("%s: it is neither true nor false", column)
}

// parseCount reads a number that may be absent.
func parseCount(column string, value *string) (int64, error) {
	if value == nil {
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.TrimSpace(*value), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: it is not a whole number", column)
	}
	return n, nil
}

// parseID reads a UUID in its canonical form, in any case.
func parseID(column string, value *string) (uuid.UUID, error) {
	s := text(value)
	id, err := uuid.FromString(s)
	if err != nil || id.IsNil() || !strings.EqualFold(id.String(), s) {
		return uuid.Nil, fmt.Errorf("%s: it is not a UUID", column)
	}
	return id, nil
}
