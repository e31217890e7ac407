package delivery

import (
	"context"
	"log/slog"
	"time"
)

const (
	poll         = time.Second            // how often the log is looked at when nobody says that there is something new
	faultMin     = 100 * time.Millisecond // between attempts to reach the database
	faultMax     = 5 * time.Second
	storeTimeout = 5 * time.Second // of one call to the database
	drainTime    = 3 * time.Second // what an attempt under way has left when its worker is stopped
	stuckAfter   = time.Second     // what a sink has to return when its time is over

	maxBatchBytes = 4 << 20 // of captured bodies in a batch, unless one event has more
)

// worker delivers to one sink, from the start of a configuration to its end.
type worker struct {
	spec   Spec
	store  Store
	leases Leases // nil: there is no other node
	owner  string
	gauge  *gauge
	logger *slog.Logger
	pause  func(attempts int, asked time.Duration) time.Duration

	soft, hard context.Context // ends when it is stopped, and some time after that
	stopSoft   context.CancelFunc
	stopHard   context.CancelFunc
	woken      chan struct{}   // 1 slot: there may be something new
	before     <-chan struct{} // closed when the worker that had the sink before is done; nil: none had
	done       chan struct{}
}

func (w *worker) stopped() bool { return w.soft.Err() != nil }

// stop has the worker end soon, once: what it is delivering may be delivered.
func (w *worker) stop() {
	if w.stopped() {
		return
	}
	w.stopSoft()
	timer := time.AfterFunc(drainTime, w.stopHard)
	go func() { // ends with the worker, which ends soon
		<-w.done
		timer.Stop()
		w.stopHard()
	}()
}

func (w *worker) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// run works until it is stopped.
func (w *worker) run() {
	defer close(w.done)
	if w.before != nil {
		<-w.before
	}
	w.gauge.state(Starting)
	defer w.gauge.state(Stopped) // before done is closed: the next one may have begun then
	if w.leases == nil {
		w.consume(w.soft, w.hard)
		return
	}
	w.lead()
}

// consume reads the log from the sink's cursor on and delivers what it finds.
func (w *worker) consume(soft, hard context.Context) {
	for soft.Err() == nil {
		position, ok := w.open(soft)
		if ok && w.requeued(soft, hard) {
			w.follow(soft, hard, position)
		}
	}
}

// open reads the cursor, however long that takes.
func (w *worker) open(soft context.Context) (position int64, ok bool) {
	ok = w.insist(soft, "opening the cursor", func(ctx context.Context) (err error) {
		position, err = w.store.OpenCursor(ctx, w.spec.Name, w.spec.FromBeginning)
		return err
	})
	w.gauge.update(func(s *Status) { s.Position = position })
	return position, ok
}

// follow delivers from a position on, until there is nothing left or the cursor
// was moved by somebody else; then it is time to look again.
func (w *worker) follow(soft, hard context.Context, position int64) {
	for soft.Err() == nil {
		entries, ok := w.read(soft, position)
		if !ok {
			return
		}
		if len(entries) == 0 {
			w.gauge.state(Idle)
			w.rest(soft)
			return
		}
		moved := false
		w.deliver(soft, hard, entries, func(_, to int, dead []DeadLetter) bool {
			next := entries[to-1].Seq
			var advanced bool
			ok := w.insist(soft, "moving the cursor", func(ctx context.Context) (err error) {
				advanced, err = w.store.AdvanceCursor(ctx, w.spec.Name, position, next, dead)
				return err
			})
			if moved = ok && !advanced; moved || !ok {
				return false
			}
			position = next
			w.gauge.update(func(s *Status) { s.Position, s.Discarded = position, s.Discarded+int64(len(dead)) })
			w.mourn(dead)
			return true
		})
		if moved {
			w.logger.Info("the cursor was moved")
			return
		}
	}
}

// mourn tells of dead letters.
func (w *worker) mourn(dead []DeadLetter) {
	if len(dead) > 0 {
		w.logger.Error("events became dead letters", "events", len(dead), "first", dead[0].Event.ID, "reason", dead[0].Reason)
	}
}

// read returns the next batch. One that is not full is given some time to fill up.
func (w *worker) read(soft context.Context, position int64) (entries []Entry, ok bool) {
	get := func(ctx context.Context) (err error) {
		entries, err = w.store.ReadEvents(ctx, position, w.spec.Batch)
		return err
	}
	ok = w.insist(soft, "reading the event log", get)
	if n := len(entries); ok && n > 0 && n < w.spec.Batch && w.spec.Linger > 0 {
		if ok = sleep(soft, w.spec.Linger); ok {
			ok = w.insist(soft, "reading the event log", get)
		}
	}
	return bounded(entries), ok
}

// bounded cuts a batch off where it gets too large.
func bounded(entries []Entry) []Entry {
	size := 0
	for i, e := range entries {
		if size += len(e.Event.Request) + len(e.Event.Response); size > maxBatchBytes && i > 0 {
			return entries[:i]
		}
	}
	return entries
}

// requeued delivers dead letters that somebody wants to be delivered again. It
// reports whether it came to an end with them.
func (w *worker) requeued(soft, hard context.Context) bool {
	for soft.Err() == nil {
		var letters []DeadLetter
		ok := w.insist(soft, "reading dead letters", func(ctx context.Context) (err error) {
			letters, err = w.store.TakeRequeued(ctx, w.spec.Name, w.spec.Batch)
			return err
		})
		if !ok || len(letters) == 0 {
			return ok
		}
		entries := make([]Entry, len(letters))
		for i, l := range letters {
			entries[i] = Entry{Seq: l.Seq, Event: l.Event}
		}
		entries = bounded(entries)
		w.deliver(soft, hard, entries, func(from, to int, dead []DeadLetter) bool {
			delivered := make([]int64, 0, to-from)
			next := 0 // dead are in the same order
			for i := from; i < to; i++ {
				if next < len(dead) && dead[next].Seq == letters[i].Seq {
					dead[next].ID, dead[next].Sink = letters[i].ID, w.spec.Name
					dead[next].Attempts += letters[i].Attempts
					next++
					continue
				}
				delivered = append(delivered, letters[i].ID)
			}
			w.mourn(dead)
			return w.insist(soft, "settling dead letters", func(ctx context.Context) error {
				return w.store.SettleRequeued(ctx, w.spec.Name, delivered, dead)
			})
		})
	}
	return false
}

// rest waits for something new.
func (w *worker) rest(soft context.Context) {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-soft.Done():
	case <-w.woken:
	case <-timer.C:
	}
}

// insist makes a call to the database until it succeeds. When the worker is
// stopped, the call that is under way is the last one.
func (w *worker) insist(soft context.Context, what string, call func(ctx context.Context) error) bool {
	for pause, first := faultMin, true; ; pause, first = min(2*pause, faultMax), false {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(soft), storeTimeout)
		err := call(ctx)
		cancel()
		if err == nil {
			if !first {
				w.logger.Info("the database answers again", "doing", what)
			}
			return true
		}
		w.gauge.fault(err)
		if first {
			w.logger.Warn("the database does not answer; trying on", "doing", what, "error", Reason(err))
		}
		if !sleep(soft, pause) {
			return false
		}
	}
}
