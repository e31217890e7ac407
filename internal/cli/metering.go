package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// UsageQuery is what `usage` shows.
type UsageQuery struct {
	From, To string   // a time, a day, or how long ago
	By       []string // what the rows are for

	Project  string // id or name
	Token    string // a token, or its id
	Provider string
	Model    string
	EndUser  string

	CSV bool
}

// usageSums is what is shown of a row.
type usageSums struct {
	Requests     int64  `json:"requests"`
	Errors       int64  `json:"errors"`
	CacheHits    int64  `json:"cache_hits"`
	InputTokens  int64  `json:"input_tokens"`
	CachedTokens int64  `json:"cached_tokens"`
	OutputTokens int64  `json:"output_tokens"`
	CostUSD      string `json:"cost_usd"`
	Unpriced     int64  `json:"unpriced"`
	Estimated    int64  `json:"estimated"`
}

func (s *usageSums) cells() []string {
	cells := []string{}
	for _, n := range []int64{s.Requests, s.Errors, s.CacheHits, s.InputTokens, s.CachedTokens, s.OutputTokens} {
		cells = append(cells, strconv.FormatInt(n, 10))
	}
	return append(cells, s.CostUSD)
}

var usageTitles = []string{"REQUESTS", "ERRORS", "HITS", "INPUT", "CACHED", "OUTPUT", "COST $"}

type usageRow struct {
	ProjectID   string `json:"project_id"`
	ProjectName string `json:"project_name"`
	TokenID     string `json:"token_id"`
	Provider    string `json:"provider"`
	Model       string `json:"model"`
	EndUser     string `json:"end_user"`
	Hour        string `json:"hour"`
	Day         string `json:"day"`
	usageSums
}

// label is the row's value of a group.
func (r *usageRow) label(group string) string {
	switch group {
	case "project":
		if r.ProjectName != "" {
			return r.ProjectName
		}
		return r.ProjectID
	case "token":
		return r.TokenID
	case "provider":
		return r.Provider
	case "model":
		return r.Model
	case "end_user":
		return r.EndUser
	case "hour":
		return r.Hour
	}
	return r.Day
}

type usageAnswer struct {
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	GroupBy  []string   `json:"group_by"`
	Complete bool       `json:"complete"`
	Rows     []usageRow `json:"rows"`
	Total    usageSums  `json:"total"`
}

func (m *Manager) usageValues(ctx context.Context, q UsageQuery, now time.Time) (url.Values, error) {
	v := url.Values{}
	for name, text := range map[string]string{"provider": q.Provider, "model": q.Model, "end_user": q.EndUser, "group_by": strings.Join(q.By, ",")} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if err := setMoments(v, now, q.From, q.To); err != nil {
		return nil, err
	}
	return v, m.setOwner(ctx, v, q.Project, q.Token)
}

// setMoments sets from and to. A day stays one, since its end is meant with to.
func setMoments(v url.Values, now time.Time, from, to string) error {
	for name, text := range map[string]string{"from": from, "to": to} {
		if text == "" {
			continue
		}
		if _, err := time.Parse(time.DateOnly, text); err == nil {
			v.Set(name, text)
			continue
		}
		at, err := moment("--"+name, text, now)
		if err != nil {
			return Usagef("--%s: expected a day such as 2030-01-31, a time with zone such as 2030-01-31T18:00:00Z, or how long ago, such as 12h or 7d", name)
		}
		v.Set(name, at.UTC().Format(time.RFC3339))
	}
	return nil
}

// setOwner sets the project and the token that something is narrowed to.
func (m *Manager) setOwner(ctx context.Context, v url.Values, project, token string) error {
	if project != "" {
		id, err := m.project(ctx, project)
		if err != nil {
			return err
		}
		v.Set("project_id", id)
	}
	if token != "" {
		id, err := tokenID(token)
		if err != nil {
			return err
		}
		v.Set("token_id", id)
	}
	return nil
}

const usagePath = "/manage/usage"

// ShowUsage sums up what requests have used: a table, and a bar for each day.
func (m *Manager) ShowUsage(ctx context.Context, q UsageQuery) error {
	if q.CSV && m.Out.JSON {
		return Usagef("give one of --csv and --json")
	}
	query, err := m.usageValues(ctx, q, time.Now())
	if err != nil {
		return err
	}
	if q.CSV {
		data, err := m.Client.CSV(ctx, usagePath, query)
		if err != nil {
			return err
		}
		_, err = m.Out.Out.Write(data)
		return err
	}
	data, _, err := m.Client.Do(ctx, http.MethodGet, usagePath, query, nil)
	if err != nil {
		return err
	}
	if m.Out.JSON {
		return m.Out.document(data)
	}
	var u, days usageAnswer
	if err := json.Unmarshal(data, &u); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if err := m.Out.usageTable(&u); err != nil {
		return err
	}
	if slices.Equal(u.GroupBy, []string{"day"}) {
		days = u
	} else {
		query.Set("group_by", "day")
		query.Set("from", u.From.Format(time.RFC3339)) // the same hours, though an hour may be over
		query.Set("to", u.To.Format(time.RFC3339))
		if data, _, err = m.Client.Do(ctx, http.MethodGet, usagePath, query, nil); err != nil {
			return err
		}
		if err := json.Unmarshal(data, &days); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
	}
	return m.Out.usageChart(days.Rows)
}

func (o Output) usageTable(u *usageAnswer) error {
	titles := []string{}
	for _, group := range u.GroupBy {
		titles = append(titles, strings.ToUpper(strings.ReplaceAll(group, "_", " ")))
	}
	lines := [][]string{}
	for i := range u.Rows {
		line := []string{}
		for _, group := range u.GroupBy {
			line = append(line, u.Rows[i].label(group))
		}
		lines = append(lines, append(line, u.Rows[i].cells()...))
	}
	if len(titles) > 0 {
		total := make([]string, len(titles))
		total[0] = "total"
		lines = append(lines, append(total, u.Total.cells()...))
	}
	if err := o.table(append(titles, usageTitles...), lines); err != nil {
		return err
	}
	if u.Total.Unpriced > 0 {
		o.Notice("%d of %d requests have no price, and are not in the cost", u.Total.Unpriced, u.Total.Requests)
	}
	if !u.Complete {
		o.Notice("the proxy is still summing up: ask again soon")
	}
	return nil
}
