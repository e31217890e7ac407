package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lastChances is how many events in a row may fail alone, once the time for
// retries is over, before it is the receiver that is taken to be down.
const lastChances = 5

// piece is a part of a batch that is delivered at once.
type piece struct {
	from, to int
	last     bool // the batch was given up: one event, one attempt
}

// result is what became of a piece.
type result uint8

const (
	taken       result = iota
	refused            // for good
	exhausted          // tried for as long as it may be
	interrupted        // by the end of the worker
)

// deliver hands the entries to the sink until each is taken or dead, and calls
// settle for every part of which that is so, in order. It ends early when soft
// ends, when an attempt is cut off by hard, or when settle says so.
//
// A refused batch is halved until what is refused stands alone. One that fails for
// other reasons is repeated as a whole, as most of these are the receiver's, and
// only at the end event by event, in case one of them makes the receiver fail.
func (w *worker) deliver(soft, hard context.Context, entries []Entry, settle func(from, to int, dead []DeadLetter) bool) {
	events := make([]Event, len(entries))
	for i, e := range entries {
		events[i] = e.Event
	}
	todo := []piece{{from: 0, to: len(entries)}}
	for streak := 0; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		var (
			r        result
			err      error
			attempts int
		)
		if p.last && streak >= lastChances {
			r, err = exhausted, errors.New("given up with others before it, as the receiver does not work")
		} else {
			r, attempts, err = w.try(soft, hard, events[p.from:p.to:p.to], p.last)
		}
		var dead []DeadLetter
		switch {
		case r == interrupted:
			return
		case r == taken:
			streak = 0
			dead = rejected(entries[p.from:p.to], err, attempts)
		case p.to-p.from == 1:
			if r == exhausted && p.last {
				streak++
			}
			dead = []DeadLetter{letter(entries[p.from], err, attempts)}
		case r == refused:
			middle := (p.from + p.to) / 2
			todo = append(todo, piece{middle, p.to, p.last}, piece{p.from, middle, p.last})
			continue
		default:
			w.logger.Warn("a batch is given up; its events get one more attempt each", "events", p.to-p.from, "attempts", attempts, "error", Reason(err))
			for i := p.to - 1; i >= p.from; i-- {
				todo = append(todo, piece{i, i + 1, true})
			}
			continue
		}
		if n := p.to - p.from - len(dead); n > 0 {
			w.gauge.taken(n)
		}
		if !settle(p.from, p.to, dead) {
			return
		}
	}
}

// letter makes a dead letter of an entry.
func letter(e Entry, err error, attempts int) DeadLetter {
	return DeadLetter{Seq: e.Seq, Event: e.Event, Reason: Reason(err), Attempts: attempts, Time: time.Now().UTC()}
}

// rejected makes dead letters of the entries that a [RejectedError] names.
func rejected(entries []Entry, err error, attempts int) []DeadLetter {
	var r *RejectedError
	if !errors.As(err, &r) {
		return nil
	}
	var dead []DeadLetter
	for i, e := range entries { // in order; a sink may name what is not there
		if why, ok := r.Events[i]; ok {
			if why == nil {
				why = errors.New("refused without a reason")
			}
			dead = append(dead, letter(e, why, attempts))
		}
	}
	return dead
}

// try delivers events until they are taken or refused, or the time is over.
func (w *worker) try(soft, hard context.Context, events []Event, once bool) (r result, attempts int, err error) {
	began := time.Now()
	for {
		if soft.Err() != nil {
			return interrupted, attempts, err
		}
		w.gauge.active()
		attempts++
		err = w.attempt(hard, events)
		var permanent *PermanentError
		var some *RejectedError
		switch {
		case err == nil, errors.As(err, &some):
			return taken, attempts, err
		case hard.Err() != nil:
			return interrupted, attempts, err
		}
		w.gauge.failed(err)
		switch {
		case errors.As(err, &permanent):
			return refused, attempts, err
		case once || w.spec.Backoff.spent(attempts, time.Since(began)):
			return exhausted, attempts, err
		}
		if w.logAttempt(attempts) {
			w.logger.Warn("a delivery failed and is repeated", "attempt", attempts, "events", len(events), "error", Reason(err))
		}
		var asked *RetryAfterError
		var after time.Duration
		if errors.As(err, &asked) {
			after = asked.After
		}
		rest := w.pause(attempts, after)
		w.gauge.waiting(rest)
		if !sleep(soft, rest) {
			return interrupted, attempts, err
		}
	}
}

// logAttempt thins out the log while a receiver is away.
func (w *worker) logAttempt(attempts int) bool { return attempts&(attempts-1) == 0 }

// errOvertime says that the sink did not answer within the time of an attempt.
var errOvertime = errors.New("no answer in time")

// attempt calls the sink, for as long as an attempt may take. A sink that does not
// return then is waited for, since it may still deliver, but not by whoever stops
// the worker.
func (w *worker) attempt(hard context.Context, events []Event) error {
	ctx, cancel := context.WithTimeout(hard, w.spec.Timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- attempt(ctx, w.spec.Sink, events, w.logger) }()
	select {
	case err := <-done:
		return w.overtime(ctx, hard, err)
	case <-ctx.Done():
	}
	if err, ok := returned(done); ok {
		return w.overtime(ctx, hard, err)
	}
	if hard.Err() == nil { // it is only late
		w.gauge.failed(errOvertime)
		w.gauge.state(Stuck)
		w.logger.Error("the sink does not end when it is told to; nothing else is delivered to it until it does", "timeout", w.spec.Timeout)
		select {
		case err := <-done:
			return w.overtime(ctx, hard, err)
		case <-hard.Done():
		}
		if err, ok := returned(done); ok {
			return w.overtime(ctx, hard, err)
		}
	}
	w.logger.Error("the sink is left behind: it does not end when it is told to")
	return hard.Err()
}

// returned gives a sink that was told to end some time to do so.
func returned(done <-chan error) (err error, ok bool) {
	timer := time.NewTimer(stuckAfter)
	defer timer.Stop()
	select {
	case err := <-done:
		return err, true
	case <-timer.C:
		return nil, false
	}
}

// overtime names the end of the time as the reason, where it is.
func (w *worker) overtime(ctx, hard context.Context, err error) error {
	if err != nil && hard.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s", errOvertime, w.spec.Timeout)
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
