package ledger

import (
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

var periods = [...]project.Period{project.Total, project.Day, project.Week, project.Month}

// spanOf is the index of a period, -1 for none.
func spanOf(p project.Period) int {
	switch p {
	case project.Total, "":
		return 0
	case project.Day:
		return 1
	case project.Week:
		return 2
	case project.Month:
		return 3
	}
	return -1
}

// Span is the period that a moment is in: its beginning, and that of the next one. Of
// [project.Total] there is only one: it begins with the epoch, and the end is zero.
func Span(p project.Period, at time.Time) (start, end time.Time) {
	at = at.UTC()
	y, m, d := at.Date()
	switch p {
	case project.Day:
		start = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 0, 1)
	case project.Week:
		start = time.Date(y, m, d-(int(at.Weekday())+6)%7, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 0, 7)
	case project.Month:
		start = time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	}
	return time.Unix(0, 0).UTC(), time.Time{}
}
