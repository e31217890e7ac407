package respcache

// Unknown is a count that nobody knows.
const Unknown = -1

// BackendStats is what a place where entries are kept has and has done since the
// process began, in this process.
type BackendStats struct {
	Name     string // memory or redis
	Up       bool   // whether it is asked at all
	Entries  int64  // Unknown for redis
	Bytes    int64  // Unknown for redis
	MaxBytes int64  // Unknown for redis

	Hits      int64
	Misses    int64
	Puts      int64
	Refused   int64 // not kept, or not found: purged meanwhile
	TooLarge  int64 // not kept
	Evictions int64 // left for want of space; Unknown for redis
	Expired   int64 // were of no use any more; Unknown for redis
	Purged    int64
	Dropped   int64 // not written to Redis: away, or too slow
	Damaged   int64 // not opened: altered, moved, or sealed under another key
	Errors    int64 // calls of Redis that failed
}

// Stats is for each place, the nearest first.
func (t *Tiered) Stats() []BackendStats {
	all := []BackendStats{t.memory.Stats()}
	if t.redis != nil {
		all = append(all, t.redis.stats())
	}
	return all
}

// Stats is what the store has and has done.
func (m *Memory) Stats() BackendStats {
	return BackendStats{
		Name: InMemory.String(), Up: true, Entries: m.entries.Load(), Bytes: m.bytes.Load(), MaxBytes: m.max,
		Hits: m.hits.Load(), Misses: m.misses.Load(), Puts: m.puts.Load(), Refused: m.refused.Load(), TooLarge: m.big.Load(),
		Evictions: m.evictions.Load(), Expired: m.expirations.Load(), Purged: m.purged.Load(),
	}
}

func (r *remote) stats() BackendStats {
	c := &r.counted
	return BackendStats{
		Name: InRedis.String(), Up: r.up.Load(), Entries: Unknown, Bytes: Unknown, MaxBytes: Unknown,
		Hits: c.hits.Load(), Misses: c.misses.Load(), Puts: c.puts.Load(), Refused: c.refused.Load(), TooLarge: c.tooLarge.Load(),
		Evictions: Unknown, Expired: Unknown, Purged: c.purged.Load(), Dropped: c.dropped.Load(), Damaged: c.damaged.Load(), Errors: c.errors.Load(),
	}
}
