package limit

import (
	"context"
	"time"
)

// NewMemoryAt has a clock of the test's.
func NewMemoryAt(clock func() int64) *Memory {
	m := &Memory{store: newStore(nil), clock: clock, stop: func() {}, done: make(chan struct{})}
	close(m.done)
	return m
}

// Sweep forgets what is idle.
func (m *Memory) Sweep() {
	for i := range shards {
		m.store.sweep(i, m.clock())
	}
}

// SetClock gives the node a clock of the test's.
func (r *Redis) SetClock(clock func() int64) { r.clock = clock }

// SetRedisClock makes the scripts read Redis's time from a key.
func (r *Redis) SetRedisClock(key string) {
	r.scripts = newScripts("local now = tonumber(redis.call('GET', '" + key + "'))\n")
}

// SetCluster makes the limiter ask as it asks a cluster.
func (r *Redis) SetCluster() { r.cluster = true }

// SetBeat changes how often the node beats and how long it distrusts new epochs.
func (r *Redis) SetBeat(every, young time.Duration) { r.every, r.young = every, young.Microseconds() }

// SetTimeout changes what Redis has to answer: a busy machine is no outage.
func (r *Redis) SetTimeout(d time.Duration) { r.timeout = d }

// Ready reports whether this node may use its share.
func (r *Redis) Ready() bool { v := r.view.Load(); return v.ready && v.divisor == v.nodes }

// Name is the key in Redis.
func Name(k Key) string { return redisName(k) }

// The keys that are not a limit's.
const (
	EpochKey = epochKey
	NodesKey = nodesKey
)

// SetQuiet leaves it to the test to tell Redis what is pending.
func (r *Redis) SetQuiet() { r.pending.wake = nil; r.every = time.Hour }

// Flush tells Redis what is pending, now.
func (r *Redis) Flush() { r.flush(context.Background()) }

// ParseTake and ParseBeat read what Redis answers.
func ParseTake(answer any, limits int) (Decision, error) {
	all := make([]held, limits)
	for i := range all {
		all[i] = held{limit: Limit{Key: Key{Kind: Tokens}, Amount: 10}, weight: 1, ceiling: 10, width: 1}
	}
	if err := parse(answer, all); err != nil {
		return Decision{}, err
	}
	return decide(all), nil
}

func ParseBeat(answer any) (nodes int64, err error) {
	v, err := parseBeat(answer, &view{}, 1)
	return v.nodes, err
}
