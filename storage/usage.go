package storage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"
)

// Usage is what requests have used.
type Usage struct {
	Requests         int64
	Errors           int64 // that did not get the answer they asked for, but for clients that left
	CacheHits        int64
	InputTokens      int64 // with those below that are input
	CachedTokens     int64
	CacheWriteTokens int64
	OutputTokens     int64 // with ReasoningTokens
	ReasoningTokens  int64
	CostNanoUSD      int64
	Unpriced         int64 // requests whose cost is not known
	Estimated        int64 // requests whose tokens, or some of them, are estimated
}

// fields are in the order of usageColumns.
func (u *Usage) fields() [len(usageColumns)]*int64 {
	return [...]*int64{&u.Requests, &u.Errors, &u.CacheHits, &u.InputTokens, &u.CachedTokens, &u.CacheWriteTokens,
		&u.OutputTokens, &u.ReasoningTokens, &u.CostNanoUSD, &u.Unpriced, &u.Estimated}
}

var usageColumns = [...]string{"requests", "errors", "cache_hits", "input_tokens", "cached_tokens", "cache_write_tokens",
	"output_tokens", "reasoning_tokens", "cost_nano_usd", "unpriced", "estimated"}

// usageKey is what usage is kept by.
type usageKey struct {
	Hour      int64 // its first microsecond
	ProjectID uuid.UUID
	TokenID   uuid.UUID
	Provider  string
	Model     string
	EndUser   string
}

func (k usageKey) compare(o usageKey) int {
	return cmp.Or(cmp.Compare(k.Hour, o.Hour), slices.Compare(k.ProjectID[:], o.ProjectID[:]), slices.Compare(k.TokenID[:], o.TokenID[:]),
		cmp.Compare(k.Provider, o.Provider), cmp.Compare(k.Model, o.Model), cmp.Compare(k.EndUser, o.EndUser))
}

// What usage can be grouped by, all but hour and day at once.
const (
	GroupProject  = "project"
	GroupToken    = "token"
	GroupProvider = "provider"
	GroupModel    = "model"
	GroupEndUser  = "end_user"
	GroupHour     = "hour"
	GroupDay      = "day" // UTC
)

const (
	microsHour = int64(time.Hour / time.Microsecond)
	microsDay  = 24 * microsHour
)

var usageGroups = map[string]string{
	GroupProject: "project_id", GroupToken: "token_id", GroupProvider: "provider", GroupModel: "model", GroupEndUser: "end_user",
	GroupHour: "hour", GroupDay: fmt.Sprintf("hour - hour %% %d", microsDay),
}

// UsageFilter selects usage. The zero filter selects all.
type UsageFilter struct {
	From, To  time.Time // of requests' beginnings, by whole hours; From is in, To is out unless an hour has begun
	ProjectID uuid.UUID
	TokenID   uuid.UUID
	Provider  string
	Model     string
	GroupBy   []string // of the Group constants; none: one row for everything
}

// UsageRow is the usage of one group. Fields that are not grouped by are zero.
type UsageRow struct {
	ProjectID uuid.UUID
	TokenID   uuid.UUID
	Provider  string
	Model     string
	EndUser   string
	Time      time.Time // the beginning of the hour or day
	Usage
}

// Usage sums up what requests have used, as far as it is rolled up. Rows are ordered
// by their groups, in the order of GroupBy.
func (db *DB) Usage(ctx context.Context, f UsageFilter) ([]UsageRow, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	w := &where{}
	if !f.From.IsZero() {
		from := f.From.UnixMicro()
		w.add("hour >= ?", from-mod(from, microsHour))
	}
	if !f.To.IsZero() {
		w.add("hour < ?", f.To.UnixMicro())
	}
	if !f.ProjectID.IsNil() {
		w.add("project_id = ?", f.ProjectID)
	}
	if !f.TokenID.IsNil() {
		w.add("token_id = ?", f.TokenID)
	}
	if f.Provider != "" {
		w.equals("provider", term(f.Provider))
	}
	if f.Model != "" {
		w.equals("model", term(f.Model))
	}
	var groups, numbers, sums []string
	for i, name := range f.GroupBy {
		column, ok := usageGroups[name]
		if !ok || slices.Contains(f.GroupBy[:i], name) {
			return nil, fmt.Errorf("grouping usage by %q: expected each of project, token, provider, model, end_user and hour or day at most once", name)
		}
		groups = append(groups, column)
		numbers = append(numbers, fmt.Sprint(i+1))
	}
	for _, column := range usageColumns {
		// A sum of whole numbers is a fraction's type to PostgreSQL.
		sums = append(sums, "CAST(COALESCE(SUM("+column+"), 0) AS BIGINT)")
	}
	query := `SELECT ` + strings.Join(append(groups, sums...), ", ") + ` FROM usage_hourly` + w.String()
	if len(numbers) > 0 {
		by := strings.Join(numbers, ", ")
		query += ` GROUP BY ` + by + ` ORDER BY ` + by
	}
	rows, err := c.read.QueryContext(ctx, query, w.args...)
	if err != nil {
		return nil, fmt.Errorf("summing up usage: %w", db.classify(err))
	}
	list := []UsageRow{}
	err = eachRow(rows, func() error {
		var row UsageRow
		var to []any
		for _, name := range f.GroupBy {
			to = append(to, row.group(name))
		}
		for _, n := range row.fields() {
			to = append(to, n)
		}
		if err := rows.Scan(to...); err != nil {
			return err
		}
		list = append(list, row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("summing up usage: %w", db.classify(err))
	}
	return list, nil
}

// group is where the value of a group is scanned to.
func (r *UsageRow) group(name string) any {
	switch name {
	case GroupProject:
		return &r.ProjectID
	case GroupToken:
		return &r.TokenID
	case GroupProvider:
		return &r.Provider
	case GroupModel:
		return &r.Model
	case GroupEndUser:
		return &r.EndUser
	default:
		return micros{&r.Time}
	}
}

// mod is the remainder, never below zero.
func mod(n, by int64) int64 { return ((n % by) + by) % by }
