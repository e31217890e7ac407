package eventredis

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	moveBatch = 1000    // events of one transaction, about
	moveBytes = 4 << 20 // of their texts, about
	movePage  = 16      // entries of one answer of Redis

	moveLinger  = 20 * time.Millisecond  // in which more may come
	movePoll    = 100 * time.Millisecond // for the events of other nodes, while we move them
	standbyPoll = time.Second            // while another node does
	movePause   = 2 * time.Second        // at most, after a failure

	redisTimeout    = time.Second
	databaseTimeout = 10 * time.Second
	leaveTimeout    = 3 * time.Second
	releaseTimeout  = 2 * time.Second

	leaseName = "redis-events"
	leaseTime = 15 * time.Second
)

// mover moves the head of the stream into the database, again and again. What
// the database has is deleted from the stream, and what is still there was not moved,
// or will be moved again to no effect. So there is nothing to remember in
// between, whoever dies when, and whatever becomes of the stream.
type mover struct {
	s       *Stream
	has     time.Time // until when the lease is ours, with room to spare
	pause   time.Duration
	said    bool     // that the database takes nothing
	quiet   bool     // says nothing of that
	deleted []string // entries that are in the database, but were not deleted yet
}

func (m *mover) run(ctx context.Context) {
	defer m.release(context.WithoutCancel(ctx))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.s.hurried:
			if !m.leads() || m.pause > 0 {
				continue // at the next look
			}
			if !sleep(ctx, moveLinger) {
				return
			}
		case <-timer.C:
		}
		next, err := m.catchUp(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.pause = min(max(2*m.pause, movePoll), movePause)
			next = m.pause
		} else {
			m.pause = 0
		}
		timer.Reset(next)
	}
}

// catchUp moves everything that there is, if this node is the one to do it, and
// says when to look again.
func (m *mover) catchUp(ctx context.Context) (next time.Duration, err error) {
	if !m.leads() {
		if some, err := m.peek(ctx); err != nil || !some {
			return movePoll, err
		}
		if has, err := m.lead(ctx); err != nil || !has {
			return standbyPoll, m.blame(ctx, err)
		}
	}
	return movePoll, m.moveAll(ctx, "+", m.leads)
}

// moveAll moves what there is up to an entry, for as long as goOn says so. It reads
// and decodes a page while the database takes the one before it.
func (m *mover) moveAll(ctx context.Context, last string, goOn func() bool) error {
	if err := m.delete(ctx); err != nil { // what an earlier call could not
		return err
	}
	page, err := m.read(ctx, "-", last)
	for err == nil && !page.empty() {
		this, more := page, page.full && goOn()
		var ahead sync.WaitGroup
		if more {
			ahead.Go(func() { page, err = m.read(ctx, this.next, last) })
		}
		moveErr := m.move(ctx, this)
		ahead.Wait()
		if moveErr != nil || !more {
			return moveErr
		}
	}
	return err // the watch tells of it
}

// leads reports whether it is our task.
func (m *mover) leads() bool { return m.s.cfg.Leases == nil || time.Now().Before(m.has) }

// lead asks for the lease.
func (m *mover) lead(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	asked := time.Now()
	has, err := m.s.cfg.Leases.TryLease(ctx, leaseName, m.s.owner, leaseTime)
	if err != nil {
		return false, fmt.Errorf("asking who moves events into the database: %w", err)
	}
	if has {
		m.has = asked.Add(leaseTime / 2)
	}
	return has, nil
}

func (m *mover) release(ctx context.Context) {
	if m.has.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	_ = m.s.cfg.Leases.ReleaseLease(ctx, leaseName, m.s.owner) // or it ends by itself
}

// move has the database take a page, and then deletes it from the stream: those very
// entries, as there may be others before them by now.
func (m *mover) move(ctx context.Context, p page) error {
	s := m.s
	if len(p.events) > 0 {
		bounded, cancel := context.WithTimeout(ctx, databaseTimeout)
		defer cancel()
		if err := m.blame(ctx, s.cfg.Database.AppendEvents(bounded, p.events)); err != nil {
			return err
		}
		s.moved.Add(int64(len(p.events)))
		s.cfg.Moved()
	}
	if p.damaged > 0 {
		s.damaged.Add(p.damaged)
		s.cfg.Logger.Error("the stream of events holds what is no event; it is deleted", "count", p.damaged, "error", p.why)
	}
	m.deleted = p.ids
	return m.delete(ctx)
}

// delete deletes entries that are in the database. Until it has, nothing more is
// moved: entries must not outlive what the database keeps of them.
func (m *mover) delete(ctx context.Context) error {
	if len(m.deleted) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := m.s.cfg.Client.XDel(ctx, m.s.cfg.Key, m.deleted...).Err(); err != nil {
		return m.s.cfg.Explain(err)
	}
	m.deleted = nil
	return nil
}

// blame logs once that the database takes nothing, and once that it does again.
func (m *mover) blame(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil || m.quiet:
	case err != nil && !m.said:
		m.said = true
		m.s.cfg.Logger.Error("events wait in Redis until the database takes them", "error", err)
	case err == nil && m.said:
		m.said = false
		m.s.cfg.Logger.Info("the database takes the events that wait in Redis")
	}
	return err
}

// sleep reports whether the time is over before ctx is.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
