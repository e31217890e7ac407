package ledger

// Keys are the accounts that the ticket holds something of, and how much.
func (t *Ticket) Keys() map[Key]int64 {
	keys := make(map[Key]int64)
	if t.holding.Load() {
		for i := range t.held {
			keys[t.held[i].entry.key] = t.held[i].amount
		}
	}
	return keys
}
