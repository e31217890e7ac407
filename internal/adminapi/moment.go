package adminapi

import (
	"regexp"
	"time"
)

var dayShape = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)

// moment reads a parameter that is a time, or a day: then it is the beginning of
// that day, UTC. It is zero when it is absent.
func (c *call) moment(name string) (at time.Time, day bool, err error) {
	text, given := c.query[name]
	if !given {
		return time.Time{}, false, nil
	}
	return parseMoment(name, text)
}

func parseMoment(name, text string) (at time.Time, day bool, err error) {
	switch {
	case dayShape.MatchString(text):
		day = true
		at, err = time.Parse(time.DateOnly, text)
	case timeShape.MatchString(text):
		at, err = time.Parse(time.RFC3339, text)
		at = at.UTC()
	}
	if err != nil || at.IsZero() || at.Year() < 1 || at.Year() >= maxYear { // the end of its day is a time, too
		return time.Time{}, false, invalid(name, "expected a time with zone, such as 2030-01-31T18:00:00Z (RFC 3339; in an address, + is written %%2B), or a day, such as 2030-01-31")
	}
	return at, day, nil
}
