package ledger

import (
	"context"
	"slices"
	"time"
)

const (
	// LeaseTime is how long a lease lasts that is not renewed.
	LeaseTime = 30 * time.Second
	// safety is how long before that its holder stops admitting.
	safety = 5 * time.Second
	// renewAfter is when a lease is renewed that nothing else is said about.
	renewAfter = 8 * time.Second
	// idleAfter is when a lease is returned that no request has come to.
	idleAfter = 2 * time.Second

	batchSize    = 100
	clerks       = 2 // transactions at a time
	applyTimeout = 5 * time.Second
)

// clerk speaks with the database for everybody: whatever has come up while one
// transaction was under way is in the next one.
type clerk struct {
	l       *Ledger
	popped  []*entry
	work    []work
	ops     []Op
	results []Result
}

// work is an operation of a transaction.
type work struct {
	entry *entry
	turn  *turn // nil: nobody waits
	op    Op
}

func (c *clerk) run(quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case <-c.l.queue.wake:
			c.serve(c.l.context)
		}
	}
}

// serve carries out what is queued, in one transaction at most.
func (c *clerk) serve(ctx context.Context) {
	if !c.begin() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	sent := c.l.clock.mono()
	now, err := c.l.store.ApplyLedger(ctx, c.l.holder, LeaseTime, c.ops, c.results)
	if err != nil && ctx.Err() == nil && c.l.clock.mono()-sent < patience/2 {
		// Perhaps a connection broke. If it was committed, this changes nothing.
		sent = c.l.clock.mono()
		now, err = c.l.store.ApplyLedger(ctx, c.l.holder, LeaseTime, c.ops, c.results)
	}
	if err == nil {
		c.l.clock.set(now, sent, c.l.clock.mono())
	}
	c.l.answered(err)
	for i := range c.work {
		c.finish(&c.work[i], &c.results[i], err, sent)
	}
}

// begin makes operations of what is queued, if anything is.
func (c *clerk) begin() bool {
	var urgent int
	c.popped, urgent = c.l.queue.pop(c.popped[:0], batchSize)
	c.work, c.ops = c.work[:0], c.ops[:0]
	now, closing := c.l.clock.mono(), c.l.closed.Load()
	for i, e := range c.popped {
		e.mu.Lock()
		if i < urgent {
			e.urgent = false
		} else {
			e.queued = false
		}
		if !e.removed && !e.busy && (e.next != nil || e.refill || e.due(now)) {
			turn := e.next
			c.work = append(c.work, work{e, turn, e.begin(now, closing)})
		}
		e.mu.Unlock()
	}
	clear(c.popped)
	// Rows are locked in this order by everybody.
	slices.SortFunc(c.work, func(a, b work) int { return a.op.Key.Compare(&b.op.Key) })
	for i := range c.work {
		c.ops = append(c.ops, c.work[i].op)
	}
	c.results = slices.Grow(c.results[:0], len(c.ops))[:len(c.ops)]
	clear(c.results)
	return len(c.work) > 0
}

// begin is how the lease should be. What is to be returned is set aside first, and
// stays so whatever becomes of the operation.
func (e *entry) begin(now time.Duration, closing bool) Op {
	waits := e.next != nil
	if e.free > 0 && (e.recall || closing || !waits && now-e.lastUse >= idleAfter) {
		e.free = 0
	}
	if !waits {
		e.trim(now)
	}
	free := max(e.free, 0)
	op := Op{Key: e.key, Limit: e.limit, Version: e.version, Fresh: e.fresh, Used: e.used + e.unflushed, Part: e.held + free, Free: free, Refill: e.refill && !e.recall && !closing}
	if waits {
		op.Needs = e.next.needs
	}
	e.sentPart, e.sentUnflushed = e.held+e.free, e.unflushed
	if e.fresh {
		e.sentUnflushed = 0
	}
	e.busy, e.recall, e.refill, e.next = true, false, false, nil
	return op
}

// finish takes note of what came of an entry's operation.
func (c *clerk) finish(w *work, r *Result, err error, sent time.Duration) {
	e, now := w.entry, c.l.clock.mono()
	e.mu.Lock()
	e.busy = false
	switch {
	case err != nil:
		e.unsure = true
	case r.Gone:
		e.lose()
	default:
		e.apply(&w.op, r, sent, now)
	}
	var alert Balance
	if err == nil {
		e.row, e.seen = r.Row, true
		if r.Row.Version > e.version {
			e.version, e.limit = r.Row.Version, r.Row.Limit
		}
		alert = r.Row.balance(&e.key, e.free, e.unflushed)
		c.l.wanted(e, r)
	}
	if e.next != nil {
		c.l.queue.push(e, true)
	} else if e.recall || err == nil && e.fresh && e.unflushed != 0 {
		c.l.queue.push(e, false)
	}
	e.mu.Unlock()
	if w.turn != nil {
		w.turn.err = err
		close(w.turn.done)
	}
	if err == nil && r.Alert > 0 && c.l.onThreshold != nil {
		c.l.onThreshold(e.key.Account, int(r.Alert), alert)
	}
	if err == nil && r.Gone {
		c.l.logger.Warn("the ledger took a lease back from this process, which could not reach the database in time",
			"scope", e.key.Scope.String(), "id", e.key.ID, "unit", e.key.Unit.String())
	}
}

// apply is what the database has answered. Requests may have held and settled since
// the operation began, which moved amounts within what it was told.
func (e *entry) apply(op *Op, r *Result, sent, now time.Duration) {
	e.free += r.Part - e.sentPart
	e.unflushed -= e.sentUnflushed
	e.used = r.Used
	e.fresh, e.unsure = false, false
	e.until = sent + LeaseTime - safety
	e.lastApplied = now
	if op.Refill || len(op.Needs) > 0 {
		e.chunk = r.Chunk
	}
	e.refused, e.refusedAt = r.Refused, now
}

// lose forgets a lease that was taken back: all it had is counted as spent. Only what
// was used beyond it is still to be charged.
func (e *entry) lose() {
	e.free = min(e.free, 0)
	e.unflushed = -e.free
	e.held, e.used, e.chunk, e.peak, e.until, e.refused = 0, 0, 0, 0, 0, 0
	e.epoch++
	e.fresh, e.unsure = true, false
}

// wanted has what is free returned if another process was refused, or the limit was
// lowered.
func (l *Ledger) wanted(e *entry, r *Result) {
	if !r.Wanted && e.wantedSeen > 0 && r.Row.WantedAt > e.wantedSeen || r.Row.Room() < 0 {
		e.recall = e.free > 0
	}
	e.wantedSeen = max(r.Row.WantedAt, e.wantedSeen, 1)
}
