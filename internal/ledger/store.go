package ledger

import (
	"context"
	"time"

	"github.com/gofrs/uuid/v5"
)

// Store is the database.
type Store interface {
	// ApplyLedger carries out operations of different keys in one transaction, in which
	// each row is locked before it is looked at, and writes what came of them to
	// results, which is as long. Leases then end after ttl, unless they are renewed by
	// another operation. It returns the database's time.
	//
	// After an error nobody knows whether it was done.
	ApplyLedger(ctx context.Context, holder uuid.UUID, ttl time.Duration, ops []Op, results []Result) (now int64, err error)

	// LedgerRows reads rows; those that do not exist are nil. It returns the database's time.
	LedgerRows(ctx context.Context, keys []Key) (rows []*Row, now int64, err error)

	// ReapLedger ends up to limit leases that ended longer than grace ago, and returns
	// those of which something was forfeited.
	ReapLedger(ctx context.Context, grace time.Duration, limit int) ([]Forfeit, error)
}

// Forfeit is what became of a lease whose holder is gone.
type Forfeit struct {
	Key
	Holder uuid.UUID
	Amount int64
}
