package storage

import (
	"context"
	"fmt"
	"strings"

	"github.com/gofrs/uuid/v5"
)

// MaxKnownTokens is how many ids [DB.KnownTokens] takes at once.
const MaxKnownTokens = 64

// knownTokensSQL always has the same number of parameters, so that there is one
// statement to prepare.
var knownTokensSQL = func() string {
	w := &where{}
	list := make([]string, MaxKnownTokens)
	for i := range list {
		list[i] = w.param(nil)
	}
	return `SELECT t.id FROM tokens t WHERE t.id IN (` + strings.Join(list, ", ") + `)`
}()

// KnownTokens tells which of up to [MaxKnownTokens] ids are of tokens, in one
// query: when very many ids are asked for that are not, asking for each by itself
// is what costs.
func (db *DB) KnownTokens(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 || len(ids) > MaxKnownTokens {
		return nil, fmt.Errorf("looking for %d tokens at once: expected 1 to %d", len(ids), MaxKnownTokens)
	}
	args := make([]any, MaxKnownTokens)
	for i, id := range ids {
		args[i] = id // the rest is NULL, and equals nothing
	}
	rows, err := c.read.QueryContext(ctx, knownTokensSQL, args...)
	if err != nil {
		return nil, fmt.Errorf("looking for %d tokens: %w", len(ids), db.classify(err))
	}
	known := make(map[uuid.UUID]bool)
	err = eachRow(rows, func() error {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return err
		}
		known[id] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for %d tokens: %w", len(ids), db.classify(err))
	}
	return known, nil
}
