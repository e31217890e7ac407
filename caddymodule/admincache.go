package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// announceTimeout bounds telling other nodes of a purge, which is done here by then:
// whoever asked for it may have left.
const announceTimeout = 5 * time.Second

var errConfigurationGone = errors.New("the configuration is being replaced; try again")

// adminCache is the cache of a configuration as the management API sees it.
type adminCache struct{ rt *runtime }

// Purge implements [adminapi.Cache].
func (c adminCache) Purge(ctx context.Context, sel respcache.Selector) (deleted int, err error) {
	release, ok := c.rt.acquire()
	if !ok {
		return 0, errConfigurationGone
	}
	defer release()
	return c.rt.purge(ctx, sel)
}

// Stats implements [adminapi.Cache].
func (c adminCache) Stats() []respcache.BackendStats {
	release, ok := c.rt.acquire()
	if !ok {
		return nil
	}
	defer release()
	if c.rt.cache == nil {
		return nil
	}
	return c.rt.cache.Stats()
}

// purge forgets what is selected in this process and in Redis, and tells other nodes
// by the database, whose Redis may be away, another one, or none.
func (r *runtime) purge(ctx context.Context, sel respcache.Selector) (deleted int, err error) {
	text, err := sel.MarshalText()
	if err != nil {
		return 0, err
	}
	if r.cache != nil {
		deleted, err = r.cache.Purge(ctx, sel)
	}
	r.db.caches.each(func(p *cachePool) {
		if p != r.cache { // of a configuration that goes, or that comes
			if n, failed := p.Apply(sel); failed != nil {
				err = errors.Join(err, failed)
			} else {
				deleted += n
			}
		}
	})
	store := r.db.store.Load()
	if store == nil {
		return deleted, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceTimeout)
	defer cancel()
	if untold := store.AnnouncePurge(ctx, string(text)); untold != nil {
		// Worse than a Redis that will be told: nobody makes up for it.
		return deleted, fmt.Errorf("telling other nodes of a purge: %w", untold)
	}
	return deleted, err
}

// purged applies a purge that another node has announced. It does not keep its
// caller, who listens for more.
func (d *database) purged(text string) {
	var sel respcache.Selector
	if err := sel.UnmarshalText([]byte(text)); err != nil {
		d.logger.Warn("another node purged something that this version cannot read; everything is purged", "error", err)
		sel = respcache.Selector{By: respcache.ByAll}
	}
	d.background(func() { d.caches.each(func(p *cachePool) { d.applyPurge(p, sel) }) })
}

// purgesMissed is called when announcements of purges may have been lost. Caches with
// a Redis hear of what they missed there.
func (d *database) purgesMissed() {
	d.background(func() {
		d.caches.each(func(p *cachePool) {
			if p.redis == nil {
				d.applyPurge(p, respcache.Selector{By: respcache.ByAll})
			}
		})
	})
}

func (d *database) applyPurge(p *cachePool, sel respcache.Selector) {
	if _, err := p.Apply(sel); err != nil {
		d.logger.Error("another node's purge failed; everything is purged", "error", err)
		if _, err := p.Apply(respcache.Selector{By: respcache.ByAll}); err != nil {
			d.logger.Error("purging everything", "error", err)
		}
	}
}

// background runs work that the closing of the database waits for.
func (d *database) background(work func()) {
	d.workMu.Lock()
	defer d.workMu.Unlock()
	if d.ctx.Err() == nil {
		d.work.Go(work)
	}
}

// Interface guard
var _ adminapi.Cache = adminCache{}
