package limit

import (
	"sync/atomic"
	"time"
)

// stats are counted since the start.
type stats struct{ takes, outages, losses atomic.Int64 }

// State says how limits are shared, for health checks and metrics.
type State struct {
	Shared  bool      // Redis decides
	Since   time.Time // of its being so, or not
	Err     error     // why not; nil: Redis was not asked yet
	Met     bool      // Redis has answered since the start; else everything is denied
	Nodes   int       // that shared a Redis when it was last asked, this one included
	Entries int       // limits in play on this node

	Takes   int64 // questions to Redis by requests
	Outages int64 // how often Redis went away
	Losses  int64 // how often Redis lost counters
}

// State is how it is now.
func (r *Redis) State() State {
	v := r.view.Load()
	return State{
		Shared:  v.up,
		Since:   v.changed,
		Err:     v.err,
		Met:     v.met,
		Nodes:   int(v.nodes),
		Entries: r.store.size(),
		Takes:   r.stats.takes.Load(),
		Outages: r.stats.outages.Load(),
		Losses:  r.stats.losses.Load(),
	}
}

// Entries is how many limits are in play.
func (m *Memory) Entries() int { return m.store.size() }
