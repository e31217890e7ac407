package caddymodule

import (
	"context"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// KnownTokens implements [token.Sieve].
func (d *database) KnownTokens(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	return d.store.Load().KnownTokens(ctx, ids)
}

// A batch that fits the authority must fit the database.
const _ uint = storage.MaxKnownTokens - token.SieveSize

// Interface guards
var _ token.Sieve = (*database)(nil)
