package adminapi

import (
	"maps"
	"slices"
)

// Route is a row of the route table, for tests.
type Route struct {
	Method, Pattern string
	Query           []string
	Public          bool
}

// Routes is the table that the API serves.
func (a *API) Routes() []Route {
	var list []Route
	for _, rt := range a.routes {
		list = append(list, Route{rt.method, rt.pattern, rt.query, rt.access == public})
	}
	return list
}

// Codes are the codes of refusals, sorted.
func Codes() []string { return slices.Sorted(maps.Keys(statusOf)) }

// StatusOf is the status of a code.
func StatusOf(code string) int { return statusOf[code] }

// Matched is the pattern that a path falls under, for the description's checks.
func Matched(pattern, path string) bool {
	_, ok := matchPattern(pattern, path)
	return ok
}

// SetMaxUsageRows sets how many rows an answer has at most.
func SetMaxUsageRows(n int) (restore func()) {
	before := maxUsageRows
	maxUsageRows = n
	return func() { maxUsageRows = before }
}

// SetMaxScanned sets how many events a call looks through.
func SetMaxScanned(n int) (restore func()) {
	before := maxScanned
	maxScanned = n
	return func() { maxScanned = before }
}

// For fuzzing.
var (
	ParseMoment = parseMoment
	WantsCSV    = wantsCSV
	Harmless    = harmless
	WithoutKey  = withoutKey
)
