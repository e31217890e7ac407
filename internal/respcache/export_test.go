package respcache

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock is a time that tests set.
type Clock struct{ ns atomic.Int64 }

func NewClock(start time.Time) *Clock {
	c := new(Clock)
	c.ns.Store(start.UnixNano())
	return c
}

func (c *Clock) Advance(d time.Duration)               { c.ns.Add(int64(d)) }
func (c *Clock) Now() time.Time                        { return time.Unix(0, c.ns.Load()) }
func (c *Clock) NowNano() int64                        { return c.ns.Load() }
func (c *Clock) Tick(time.Duration) <-chan time.Time   { return nil }
func NewMemoryAt(max int64, c *Clock) (*Memory, error) { return newMemory(max, c.Now, c) }
func NewAt(o Options, c *Clock) (*Tiered, error)       { return newTiered(o, c.Now, c) }
func (m *Memory) CleanUp()                             { m.groups.CleanUp() }
func (m *Memory) Weight() uint64                       { return m.groups.WeightedSize() }
func (m *Memory) Groups() int                          { return m.groups.EstimatedSize() }
func (t *Tiered) Memory() *Memory                      { return t.memory }
func (t *Tiered) Beat(ctx context.Context)             { t.redis.beat(ctx) }
func (t *Tiered) Up() bool                             { return t.redis.up.Load() }
func (t *Tiered) HashName(primary Key) string          { return t.redis.hash(primary) }
func (t *Tiered) FieldName(variant Key) string         { return t.redis.field(variant) }
func (t *Tiered) PurgesName() string                   { return t.redis.purgesKey() }
func (i *Identity) Encode() []byte                     { return i.encode(nil) }
func EncodeEntry(e *Entry) []byte                      { return encodeEntry(nil, e) }
func DecodeEntry(b []byte) (*Entry, error)             { return decodeEntry(b) }
func Pack(b []byte) []byte                             { return pack(b) }
func Unpack(b []byte) ([]byte, error)                  { return unpack(b) }

// Raise is raise.
func Raise(place *atomic.Uint64, at uint64) { raise(place, at) }

// Settled reports whether all that was queued for Redis is written.
func (t *Tiered) Settled() bool {
	r := t.redis
	if len(r.queue) > 0 || r.unwanted.some.Load() || r.queued.Load() > 0 {
		return false
	}
	done := r.writing.TryLock()
	if done {
		r.writing.Unlock()
	}
	return done
}

// LookupRedis looks past the memory.
func (t *Tiered) LookupRedis(ctx context.Context, primary Key, variant func([]string) Key) (*Entry, bool) {
	return t.redis.lookup(ctx, primary, variant)
}

// ParseIndex reads an index and writes it again.
func ParseIndex(text string) (lines []string, lists [][]string) {
	for _, l := range parseIndex(text) {
		lines = append(lines, l.String())
		lists = append(lists, l.vary)
	}
	return lines, lists
}
