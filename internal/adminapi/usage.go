package adminapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const usageDays = 30 // that are shown when nobody says from when

// maxUsageRows is how many rows an answer has at most. A variable for tests.
var maxUsageRows = 50_000

// usageSums is what requests have used.
type usageSums struct {
	Requests         int64  `json:"requests"`
	Errors           int64  `json:"errors"`
	CacheHits        int64  `json:"cache_hits"`
	InputTokens      int64  `json:"input_tokens"`
	CachedTokens     int64  `json:"cached_tokens"`
	CacheWriteTokens int64  `json:"cache_write_tokens"`
	OutputTokens     int64  `json:"output_tokens"`
	ReasoningTokens  int64  `json:"reasoning_tokens"`
	CostUSD          string `json:"cost_usd"`
	Unpriced         int64  `json:"unpriced"`
	Estimated        int64  `json:"estimated"`
}

func viewUsage(u *storage.Usage) usageSums {
	return usageSums{
		Requests: u.Requests, Errors: u.Errors, CacheHits: u.CacheHits, InputTokens: u.InputTokens, CachedTokens: u.CachedTokens,
		CacheWriteTokens: u.CacheWriteTokens, OutputTokens: u.OutputTokens, ReasoningTokens: u.ReasoningTokens,
		CostUSD: usd.Format(u.CostNanoUSD), Unpriced: u.Unpriced, Estimated: u.Estimated,
	}
}

// usageRow is the usage of a group; it has the members that were grouped by.
type usageRow struct {
	ProjectID   *string    `json:"project_id,omitzero"`
	ProjectName *string    `json:"project_name,omitzero"`
	TokenID     *string    `json:"token_id,omitzero"`
	Provider    *string    `json:"provider,omitzero"`
	Model       *string    `json:"model,omitzero"`
	EndUser     *string    `json:"end_user,omitzero"`
	Hour        *time.Time `json:"hour,omitzero"`
	Day         *string    `json:"day,omitzero"`
	usageSums
}

// usageView is the answer.
type usageView struct {
	From     time.Time  `json:"from"` // whole hours, as usage is kept by
	To       time.Time  `json:"to"`
	GroupBy  []string   `json:"group_by"`
	Complete bool       `json:"complete"` // whether everything in the log is summed up
	Rows     []usageRow `json:"rows"`
	Total    usageSums  `json:"total"`
}

func (a *API) usage(c *call) (answer, error) {
	f, endUser, err := c.usageFilter(a.now())
	if err != nil {
		return answer{}, err
	}
	ctx := c.r.Context()
	complete, err := a.events.CatchUp(ctx)
	if err != nil {
		return answer{}, err
	}
	rows, err := a.usageRows(ctx, f, endUser)
	if err != nil {
		return answer{}, err
	}
	view := usageView{From: f.From, To: f.To, GroupBy: f.GroupBy, Complete: complete, Rows: make([]usageRow, 0, len(rows))}
	names := func(uuid.UUID) string { return "" }
	if slices.Contains(f.GroupBy, storage.GroupProject) {
		if names, err = a.projectNames(ctx); err != nil {
			return answer{}, err
		}
	}
	var total storage.Usage
	for i := range rows {
		addUsage(&total, &rows[i].Usage)
		view.Rows = append(view.Rows, viewUsageRow(&rows[i], f.GroupBy, names))
	}
	view.Total = viewUsage(&total)
	if !wantsCSV(c.r.Header["Accept"]) {
		return answer{status: http.StatusOK, header: http.Header{"Vary": {"Accept"}}, body: view}, nil
	}
	return view.csv()
}

// usageFilter reads the parameters. The times of the filter are whole hours.
func (c *call) usageFilter(now time.Time) (f storage.UsageFilter, endUser string, err error) {
	if err := firstOf(
		c.filterID("project_id", &f.ProjectID),
		c.filterID("token_id", &f.TokenID),
		c.filterText("provider", &f.Provider),
		c.filterText("model", &f.Model),
		c.filterText("end_user", &endUser),
		c.groupBy(&f.GroupBy),
	); err != nil {
		return f, "", err
	}
	from, _, err := c.moment("from")
	if err != nil {
		return f, "", err
	}
	to, day, err := c.moment("to")
	switch {
	case err != nil:
		return f, "", err
	case to.IsZero():
		to = now.UTC()
	case day:
		to = to.AddDate(0, 0, 1)
	}
	if from.IsZero() {
		from = to.AddDate(0, 0, -usageDays)
	}
	if !to.After(from) {
		return f, "", invalid("to", "is not after from")
	}
	f.From, f.To = from.Truncate(time.Hour), to.Truncate(time.Hour)
	if f.To.Before(to) { // an hour that has begun is in
		f.To = f.To.Add(time.Hour)
	}
	return f, endUser, nil
}

var usageGroups = []string{
	storage.GroupProject, storage.GroupToken, storage.GroupProvider, storage.GroupModel, storage.GroupEndUser, storage.GroupHour, storage.GroupDay,
}

func (c *call) groupBy(to *[]string) error {
	*to = []string{}
	text, given := c.query["group_by"]
	if !given {
		return nil
	}
	names := strings.Split(text, ",")
	for i, name := range names {
		if !slices.Contains(usageGroups, name) || slices.Contains(names[:i], name) {
			return invalid("group_by", "expected some of %s, each once, with commas between them", strings.Join(usageGroups, ","))
		}
	}
	if slices.Contains(names, storage.GroupHour) && slices.Contains(names, storage.GroupDay) {
		return invalid("group_by", "expected one of hour and day")
	}
	*to = names
	return nil
}

// usageRows sums up. Without groups there is one row.
func (a *API) usageRows(ctx context.Context, f storage.UsageFilter, endUser string) ([]storage.UsageRow, error) {
	asked := f.GroupBy
	if endUser != "" && !slices.Contains(asked, storage.GroupEndUser) {
		f.GroupBy = append(slices.Clone(asked), storage.GroupEndUser) // last, so that the order stays
	}
	rows, err := a.store.Usage(ctx, f)
	if err != nil {
		return nil, err
	}
	if endUser != "" { // of one user, each group has one row
		rows = slices.DeleteFunc(rows, func(r storage.UsageRow) bool { return !sameTerm(r.EndUser, endUser) })
	}
	if len(rows) == 0 && len(asked) == 0 {
		rows = append(rows, storage.UsageRow{})
	}
	if len(rows) > maxUsageRows {
		return nil, invalid("group_by", "gives %d rows, at most %d are answered; group by less, or narrow it by time or by a filter", len(rows), maxUsageRows)
	}
	return rows, nil
}

func viewUsageRow(r *storage.UsageRow, groups []string, nameOf func(uuid.UUID) string) usageRow {
	v := usageRow{usageSums: viewUsage(&r.Usage)}
	for _, group := range groups {
		switch group {
		case storage.GroupProject:
			id, name := r.ProjectID.String(), nameOf(r.ProjectID)
			v.ProjectID, v.ProjectName = &id, &name
		case storage.GroupToken:
			id := r.TokenID.String()
			v.TokenID = &id
		case storage.GroupProvider:
			v.Provider = &r.Provider
		case storage.GroupModel:
			v.Model = &r.Model
		case storage.GroupEndUser:
			v.EndUser = &r.EndUser
		case storage.GroupHour:
			hour := r.Time.UTC()
			v.Hour = &hour
		case storage.GroupDay:
			day := r.Time.UTC().Format(time.DateOnly)
			v.Day = &day
		}
	}
	return v
}

// projectNames are those of all projects: there are fewer of them than of rows.
func (a *API) projectNames(ctx context.Context) (func(uuid.UUID) string, error) {
	projects, err := a.store.Projects(ctx, storage.ProjectFilter{})
	if err != nil {
		return nil, err
	}
	names := make(map[uuid.UUID]string, len(projects))
	for i := range projects {
		names[projects[i].ID] = projects[i].Name
	}
	return func(id uuid.UUID) string { return names[id] }, nil
}

func addUsage(to, u *storage.Usage) {
	to.Requests += u.Requests
	to.Errors += u.Errors
	to.CacheHits += u.CacheHits
	to.InputTokens += u.InputTokens
	to.CachedTokens += u.CachedTokens
	to.CacheWriteTokens += u.CacheWriteTokens
	to.OutputTokens += u.OutputTokens
	to.ReasoningTokens += u.ReasoningTokens
	to.CostNanoUSD += u.CostNanoUSD
	to.Unpriced += u.Unpriced
	to.Estimated += u.Estimated
}
