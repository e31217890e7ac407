package delivery

import (
	"sync"
	"time"
)

// State is what a sink's worker does.
type State string

// The states of a sink.
const (
	Starting State = "starting" // it has not begun, or the database is away
	Idle     State = "idle"     // the sink has all there is
	Active   State = "active"   // it delivers
	Retrying State = "retrying" // the last attempt failed, and it waits for the next one
	Stuck    State = "stuck"    // an attempt does not end, though its time is over
	Standby  State = "standby"  // another node delivers
	Stopped  State = "stopped"  // no configuration has the sink any more
)

// Status is how a sink fares. Counts are this process's, since it started;
// Position, Pending, Oldest and Dead are the same on all nodes.
type Status struct {
	Name      string
	State     State
	Delivered int64 // events that the sink has taken
	Failed    int64 // attempts that failed
	Discarded int64 // events that became dead letters

	LastError     string // of the last attempt that failed, or of the database; "": the last one succeeded
	LastErrorAt   time.Time
	LastDelivered time.Time // when the last batch was taken
	NextAttempt   time.Time // when Retrying

	Position int64         // in the log, up to which the sink has everything
	Pending  int64         // events after it
	Lag      time.Duration // age of the oldest pending one; 0: none
	Dead     int64         // dead letters that are kept
}

// gauge keeps a sink's counts, for as long as the process runs.
type gauge struct {
	mu sync.Mutex
	s  Status
}

func (g *gauge) status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.s
}

func (g *gauge) update(f func(s *Status)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.s)
}

func (g *gauge) state(state State) { g.update(func(s *Status) { s.State = state }) }

// taken notes that the sink has n more events.
func (g *gauge) taken(n int) {
	g.update(func(s *Status) {
		s.Delivered += int64(n)
		s.LastError, s.LastErrorAt, s.LastDelivered = "", time.Time{}, time.Now()
	})
}

// failed notes an attempt that failed.
func (g *gauge) failed(err error) {
	g.update(func(s *Status) {
		s.Failed++
		s.LastError, s.LastErrorAt = Reason(err), time.Now()
	})
}

// fault notes that the database is away.
func (g *gauge) fault(err error) {
	g.update(func(s *Status) {
		s.LastError, s.LastErrorAt = Reason(err), time.Now()
		if s.State != Retrying {
			s.State = Starting
		}
	})
}

// waiting notes when the next attempt is.
func (g *gauge) waiting(pause time.Duration) {
	g.update(func(s *Status) { s.State, s.NextAttempt = Retrying, time.Now().Add(pause) })
}

// active notes that an attempt begins.
func (g *gauge) active() {
	g.update(func(s *Status) { s.State, s.NextAttempt = Active, time.Time{} })
}
