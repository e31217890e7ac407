package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

const (
	purgePath      = "/manage/cache/purge"
	cacheStatsPath = "/manage/cache/stats"
)

// Purge is what `cache purge` forgets: one of these, and the method with the path.
type Purge struct {
	Key     string
	Path    string // with its query, or a whole URL
	Method  string
	Prefix  string // of paths
	Pattern string // of paths
	Project string // id or name
	Model   string
	All     bool
}

func (m *Manager) purgeFields(ctx context.Context, p Purge) (Fields, error) {
	body := Fields{}
	for member, text := range map[string]string{
		"key": p.Key, "url": p.Path, "prefix": p.Prefix, "pattern": p.Pattern, "project_id": p.Project, "model": p.Model,
	} {
		if text != "" {
			body[member] = text
		}
	}
	if p.All {
		body["all"] = true
	}
	if len(body) != 1 {
		return nil, Usagef("give exactly one of --key, --path, --prefix, --pattern, --project, --model and --all")
	}
	if p.Method != "" {
		if p.Path == "" {
			return nil, Usagef("--method goes with --path alone")
		}
		body["method"] = p.Method
	}
	if p.Project != "" {
		id, err := m.project(ctx, p.Project)
		if err != nil {
			return nil, err
		}
		body["project_id"] = id
	}
	return body, nil
}

// PurgeCache forgets stored answers on all nodes. A purge that is not complete yet is
// an error, after its result.
func (m *Manager) PurgeCache(ctx context.Context, p Purge) error {
	body, err := m.purgeFields(ctx, p)
	if err != nil {
		return err
	}
	data, _, err := m.Client.Do(ctx, http.MethodPost, purgePath, nil, body)
	if err != nil {
		return err
	}
	var r struct {
		Deleted int64  `json:"deleted"`
		Warning string `json:"warning"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if m.Out.JSON {
		if err := m.Out.document(data); err != nil {
			return err
		}
	} else {
		m.Out.Notice("%d answers purged", r.Deleted)
	}
	if r.Warning != "" {
		return errors.New("the purge is not complete: " + r.Warning)
	}
	return nil
}

// backendView is what is shown of a place where answers are kept.
type backendView struct {
	Name      string `json:"name"`
	Up        bool   `json:"up"`
	Entries   *int64 `json:"entries"`
	Bytes     *int64 `json:"bytes"`
	MaxBytes  *int64 `json:"max_bytes"`
	Hits      *int64 `json:"hits"`
	Misses    *int64 `json:"misses"`
	Puts      *int64 `json:"puts"`
	Evictions *int64 `json:"evictions"`
	Expired   *int64 `json:"expired"`
	Purged    *int64 `json:"purged"`
	Dropped   *int64 `json:"dropped"`
	Errors    *int64 `json:"errors"`
}

// hitRatio is how many of the look-ups have found something.
func (b *backendView) hitRatio() string {
	if b.Hits == nil || b.Misses == nil || *b.Hits+*b.Misses == 0 {
		return ""
	}
	return strconv.FormatFloat(100*float64(*b.Hits)/float64(*b.Hits+*b.Misses), 'f', 1, 64) + " %"
}

// size is a number of bytes as people read it.
func size(n *int64) string {
	if n == nil {
		return ""
	}
	value, unit := float64(*n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	text := strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0")
	return text + " " + units[unit]
}

// CacheStats shows what is cached, and what of it was used.
func (m *Manager) CacheStats(ctx context.Context) error {
	data, _, err := m.Client.Do(ctx, http.MethodGet, cacheStatsPath, nil, nil)
	if err != nil {
		return err
	}
	return show(m.Out, data, func(v *struct {
		Backends []backendView `json:"backends"`
	}) error {
		if len(v.Backends) == 0 {
			m.Out.Notice("no handler has a cache")
			return nil
		}
		rows := [][]string{}
		for i := range v.Backends {
			b := &v.Backends[i]
			rows = append(rows, []string{
				b.Name, yesNo(b.Up), count(b.Entries), size(b.Bytes), size(b.MaxBytes), count(b.Hits), count(b.Misses), b.hitRatio(),
				count(b.Puts), count(b.Evictions), count(b.Expired), count(b.Purged), count(b.Dropped), count(b.Errors),
			})
		}
		return m.Out.table([]string{
			"CACHE", "UP", "ENTRIES", "SIZE", "OF", "HITS", "MISSES", "RATIO", "STORED", "EVICTED", "EXPIRED", "PURGED", "DROPPED", "ERRORS",
		}, rows)
	})
}
