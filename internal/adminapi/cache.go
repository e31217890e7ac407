package adminapi

import (
	"context"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// Cache is what the API needs of the response cache.
type Cache interface {
	// Purge forgets what is selected, on all nodes, and returns how many entries that
	// were. With [respcache.ErrPending] nothing of it is found by this process, and
	// Redis, so all nodes, will be told when it answers. With any other error it holds
	// for this process, and others may not know.
	Purge(ctx context.Context, sel respcache.Selector) (deleted int, err error)

	// Stats is for each place where entries are kept, the nearest first.
	Stats() []respcache.BackendStats
}

// noCache is a host whose handlers cache nothing.
type noCache struct{}

func (noCache) Purge(context.Context, respcache.Selector) (int, error) { return 0, nil }
func (noCache) Stats() []respcache.BackendStats                        { return nil }

// backendView is a place where entries are kept. Counts are this process's; null is
// what nobody knows.
type backendView struct {
	Name      string `json:"name"`
	Up        bool   `json:"up"`
	Entries   *int64 `json:"entries"`
	Bytes     *int64 `json:"bytes"`
	MaxBytes  *int64 `json:"max_bytes"`
	Hits      *int64 `json:"hits"`
	Misses    *int64 `json:"misses"`
	Puts      *int64 `json:"puts"`
	Refused   *int64 `json:"refused"`
	TooLarge  *int64 `json:"too_large"`
	Evictions *int64 `json:"evictions"`
	Expired   *int64 `json:"expired"`
	Purged    *int64 `json:"purged"`
	Dropped   *int64 `json:"dropped"`
	Damaged   *int64 `json:"damaged"`
	Errors    *int64 `json:"errors"`
}

type cacheView struct {
	Backends []backendView `json:"backends"`
}

// cacheStats answers from memory.
func (a *API) cacheStats(*call) (answer, error) {
	view := cacheView{Backends: []backendView{}}
	for _, s := range a.cache.Stats() {
		view.Backends = append(view.Backends, backendView{
			Name: s.Name, Up: s.Up, Entries: known(s.Entries), Bytes: known(s.Bytes), MaxBytes: known(s.MaxBytes),
			Hits: known(s.Hits), Misses: known(s.Misses), Puts: known(s.Puts), Refused: known(s.Refused), TooLarge: known(s.TooLarge),
			Evictions: known(s.Evictions), Expired: known(s.Expired), Purged: known(s.Purged), Dropped: known(s.Dropped),
			Damaged: known(s.Damaged), Errors: known(s.Errors),
		})
	}
	return ok(view)
}

func known(n int64) *int64 {
	if n == respcache.Unknown {
		return nil
	}
	return &n
}
