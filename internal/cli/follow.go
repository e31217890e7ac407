package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

const (
	followEvery = time.Second
	followFirst = 10 // requests that are shown before those to come
)

// FollowRequests shows the newest requests, and then those that end, as they do,
// until ctx is over: that is no error. With --json each is a line.
func (m *Manager) FollowRequests(ctx context.Context, f RequestFilter) error {
	return m.followFrom(ctx, requestsPath, f)
}

// FollowEvents is FollowRequests with the alerts among those to come.
func (m *Manager) FollowEvents(ctx context.Context, f RequestFilter) error {
	return m.followFrom(ctx, eventsPath, f)
}

func (m *Manager) followFrom(ctx context.Context, path string, f RequestFilter) error {
	if f.From != "" || f.To != "" {
		return Usagef("--from and --to: what is followed begins now")
	}
	query, err := m.requestValues(ctx, f, time.Now())
	if err != nil {
		return err
	}
	err = m.follow(ctx, path, query, f.Limit)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

func (m *Manager) follow(ctx context.Context, path string, query url.Values, first int) error {
	query.Set("follow", "now") // before the newest ones: what comes between is seen twice, not never
	_, place, err := m.followed(ctx, path, query)
	if err != nil {
		return err
	}
	newest := url.Values{}
	for name, value := range query {
		if name != "follow" {
			newest[name] = value
		}
	}
	if first == 0 {
		first = followFirst
	}
	rows, err := m.Client.list(ctx, requestsPath, newest, first)
	if err != nil {
		return err
	}
	slices.Reverse(rows)
	seen := map[string]bool{}
	for {
		for _, row := range rows {
			if err := m.showFollowed(row, seen); err != nil {
				return err
			}
		}
		query.Set("follow", place)
		next := ""
		if rows, next, err = m.followed(ctx, path, query); err != nil {
			return err
		}
		if next != place {
			place = next
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(m.pause()):
		}
	}
}

func (m *Manager) pause() time.Duration {
	if m.every > 0 {
		return m.every
	}
	return followEvery
}

// followed gets what the log has after a place, and where to go on.
func (m *Manager) followed(ctx context.Context, path string, query url.Values) (rows []json.RawMessage, place string, err error) {
	data, header, err := m.Client.Do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, "", err
	}
	if err := json.Unmarshal(data, &rows); err != nil {
		return nil, "", fmt.Errorf("reading the answer to %s: expected a list", path)
	}
	if place = linked(header, "follow"); place == "" {
		return nil, "", fmt.Errorf("reading the answer to %s: it does not lead on", path)
	}
	return rows, place, nil
}

func (m *Manager) showFollowed(row json.RawMessage, seen map[string]bool) error {
	var r requestView
	if err := json.Unmarshal(row, &r); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if len(seen) < 2*maxPageSize { // those after the first few come once
		if seen[r.ID] {
			return nil
		}
		seen[r.ID] = true
	}
	if m.Out.JSON {
		return m.Out.document(row)
	}
	if r.Type == "alert" {
		return m.showAlert(row)
	}
	cells := r.cells()
	for i, cell := range cells {
		if cells[i] = OneLine(cell); cells[i] == "" {
			cells[i] = "-"
		}
	}
	_, err := fmt.Fprintf(m.Out.Out, "%s  %s  %-16s  %-10s  %-24s  %6s  %6s  %10s  %6s  %s\n",
		cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7], cells[8], cells[9])
	return err
}

// showAlert shows an alert as a line that no request looks like.
func (m *Manager) showAlert(row json.RawMessage) error {
	e, err := event.Decode(row)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	whose := "project " + e.ProjectID.String()
	if !e.TokenID.IsNil() {
		whose = "token " + e.TokenID.String()
	}
	_, err = fmt.Fprintf(m.Out.Out, "%s  ALERT  %s  (%s)  %s\n", timeText(&e.Time, ""), OneLine(e.Alert.String()), whose, e.ID)
	return err
}
