package price

import (
	"fmt"
	"time"
)

// constraint says when a price holds.
type constraint struct {
	Type      string `json:"type"`
	StartDate string `json:"start_date,omitempty"`
	StartTime string `json:"start_time,omitempty"`
	EndTime   string `json:"end_time,omitempty"`

	since    time.Time
	from, to time.Duration // since midnight UTC
}

func (c *constraint) compile() (err error) {
	switch c.Type {
	case "start_date":
		c.since, err = parseDate(c.StartDate)
	case "time_of_date":
		if c.from, err = parseTimeOfDay(c.StartTime); err == nil {
			c.to, err = parseTimeOfDay(c.EndTime)
		}
	default:
		err = fmt.Errorf("unknown constraint %q", c.Type)
	}
	return err
}

func parseDate(text string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("start_date: %w", err)
	}
	return t, nil
}

func parseTimeOfDay(text string) (time.Duration, error) {
	t, err := time.Parse("15:04:05.999999999Z07:00", text)
	if err != nil {
		return 0, fmt.Errorf("time of day: %w", err)
	}
	return sinceMidnight(t), nil
}

func sinceMidnight(t time.Time) time.Duration {
	t = t.UTC()
	h, m, s := t.Clock()
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second + time.Duration(t.Nanosecond())
}

// holds reports whether the price holds at a time. A span of the day that ends
// before it begins goes over midnight.
func (c *constraint) holds(at time.Time) bool {
	if c == nil {
		return true
	}
	if c.Type == "start_date" {
		return !at.Before(c.since)
	}
	now := sinceMidnight(at)
	if c.to < c.from {
		return now >= c.from || now < c.to
	}
	return now >= c.from && now < c.to
}

// period is what holds under a condition.
type period[T any] struct {
	when  *constraint // nil: always
	value T
}

// current is what holds at a time: the last one whose condition is met, else the
// first.
func current[T any](periods []period[T], at time.Time) T {
	for i := len(periods) - 1; i > 0; i-- {
		if periods[i].when.holds(at) {
			return periods[i].value
		}
	}
	return periods[0].value
}
