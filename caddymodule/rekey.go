package caddymodule

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// holders are the configurations that have started with a database, and the
// encryption keys that each brought along: the last one's are in use. A reload with
// other keys keeps the database, so that requests of the old configuration go on
// and hear of revocations.
type holders struct {
	mu   sync.Mutex
	keys [][]byte // in use; nil before the keyring is made
	list []holder
}

type holder struct {
	runtime *runtime
	keys    [][]byte
}

// encryptionKeys are the configured keys, or the one in the file beside a SQLite
// database.
func (c databaseConfig) encryptionKeys(logger *slog.Logger) ([][]byte, error) {
	if len(c.keys) > 0 {
		return c.keys, nil
	}
	key, err := encryptionKeyFile(filepath.Dir(c.dsn), c.dsn, logger)
	if err != nil {
		return nil, err
	}
	return [][]byte{key}, nil
}

// keyring makes the keyring to open the database with.
func (d *database) keyring() (*secret.Keyring, error) {
	d.holders.mu.Lock()
	defer d.holders.mu.Unlock()
	if d.holders.keys == nil {
		keys, err := d.cfg.encryptionKeys(d.logger)
		if err != nil {
			return nil, err
		}
		d.holders.keys = keys
	}
	return secret.NewKeyring(d.holders.keys...)
}

// adopt puts the encryption keys of a configuration that starts in place of
// those in use. When rows need other keys it fails and changes nothing.
func (d *database) adopt(rt *runtime) error {
	keys, err := rt.cfg.encryptionKeys(d.logger)
	if err != nil {
		return err
	}
	if err := d.useKeys(keys, true); err != nil {
		return err
	}
	d.holders.mu.Lock()
	defer d.holders.mu.Unlock()
	d.holders.list = append(d.holders.list, holder{rt, keys})
	return nil
}

// abandon forgets a configuration. If its keys are in use, its reload has failed,
// and those of the one before are put back; what was sealed meanwhile still opens.
func (d *database) abandon(rt *runtime) {
	h := &d.holders
	h.mu.Lock()
	i := slices.IndexFunc(h.list, func(held holder) bool { return held.runtime == rt })
	last := i >= 0 && i == len(h.list)-1
	var keys [][]byte
	if i >= 0 {
		gone := h.list[i]
		h.list = slices.Delete(h.list, i, i+1)
		if last && len(h.list) > 0 && !sameKeys(h.list[len(h.list)-1].keys, gone.keys) {
			keys = slices.Concat(h.list[len(h.list)-1].keys, gone.keys)
		}
	}
	h.mu.Unlock()
	if keys == nil {
		return
	}
	if err := d.useKeys(keys, false); err != nil {
		d.logger.Error("going back to the encryption keys of the running configuration", "error", err)
	}
}

// useKeys replaces the keys in use, if they differ.
func (d *database) useKeys(keys [][]byte, check bool) error {
	d.holders.mu.Lock()
	same := sameKeys(d.holders.keys, keys)
	d.holders.mu.Unlock()
	if same {
		return nil
	}
	d.mu.Lock() // nobody makes a keyring meanwhile
	defer d.mu.Unlock()
	ring, err := secret.NewKeyring(keys...)
	if err != nil {
		return err
	}
	if store := d.store.Load(); store != nil {
		ctx, cancel := context.WithTimeout(d.ctx, openTimeout)
		defer cancel()
		if err := store.UseKeys(ctx, ring, check); err != nil {
			return err
		}
	}
	d.holders.mu.Lock()
	defer d.holders.mu.Unlock()
	d.holders.keys = keys
	return nil
}

func sameKeys(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
