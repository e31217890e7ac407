package ledger

import (
	"context"
	"fmt"
)

// Balances tells how accounts stand, in the same order: by the database, and what it
// does not know of this process. It is no more than a second behind other nodes.
func (l *Ledger) Balances(ctx context.Context, limits []Limit) ([]Balance, error) {
	keys := make([]Key, len(limits))
	for i := range limits {
		if err := limits[i].validate(); err != nil {
			return nil, err
		}
		period := spanOf(limits[i].Period)
		if period > 0 && !l.clock.known() {
			if err := l.learn(ctx); err != nil {
				return nil, err
			}
		}
		keys[i] = Key{limits[i].Account, l.clock.start(period, l.clock.mono())}
		keys[i].Period = periods[period]
	}
	if len(keys) == 0 {
		return nil, nil
	}
	rows, _, err := l.store.LedgerRows(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	list := make([]Balance, len(keys))
	for i, row := range rows {
		limit := &limits[i]
		if row == nil {
			row = new(Row)
		}
		if limit.Version > row.Version || row.Version == 0 {
			row.Limit = min(limit.Amount, MaxAmount)
		}
		var free, unflushed int64
		if e := l.entries.find(&keys[i]); e != nil {
			e.mu.Lock()
			// An operation under way may be in the row, or not.
			free, unflushed = min(max(e.free, 0), row.Leased), e.unflushed
			e.mu.Unlock()
		}
		list[i] = row.balance(&keys[i], free, unflushed)
	}
	return list, nil
}
