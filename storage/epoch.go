package storage

import (
	"context"
	"time"
)

// lookAgain is how soon a look at the epoch is repeated that failed.
const lookAgain = time.Second

// epochWatch notices that somebody else has rewritten the whole database, by a
// restore, say: the pepper is read again, and listeners are told of a gap.
type epochWatch struct {
	db     *DB
	c      *conns
	known  string
	failed string // the epoch whose pepper did not open; logged once
	kick   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// newEpochWatch must come before the pepper is read: whatever happens to the
// database after it is noticed.
func (db *DB) newEpochWatch(ctx context.Context, c *conns) (*epochWatch, error) {
	known, err := readMeta(ctx, c.writer, metaEpoch)
	if err != nil {
		return nil, err
	}
	return &epochWatch{db: db, c: c, known: known, kick: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

// start looks whenever there was a gap, and now and then where nobody announces
// a rewrite. ctx may end before the watch, which goes on until stop.
func (w *epochWatch) start(ctx context.Context) {
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(w.done)
		w.run(ctx, w.db.dialect.epochPoll())
	}()
}

func (w *epochWatch) stop() {
	if w.cancel != nil {
		w.cancel()
		<-w.done
	}
}

// soon has the watch look. It does not block.
func (w *epochWatch) soon() {
	select {
	case w.kick <- struct{}{}:
	default: // it is going to
	}
}

func (w *epochWatch) run(ctx context.Context, every time.Duration) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	if every == 0 {
		timer.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
		case <-timer.C:
		}
		switch err := w.look(ctx); {
		case err != nil && ctx.Err() == nil:
			w.db.logger.Debug("looking whether the database was rewritten", "error", err)
			timer.Reset(lookAgain)
		case every > 0:
			timer.Reset(every)
		}
	}
}

// look compares the epoch with the one that is known.
func (w *epochWatch) look(ctx context.Context) error {
	epoch, err := readMeta(ctx, w.c.read, metaEpoch)
	if err != nil || epoch == w.known {
		return err
	}
	if !w.db.anyKeys {
		pepper, err := w.db.readPepper(ctx, w.c.read)
		if err != nil {
			if w.failed != epoch {
				w.failed = epoch
				w.db.logger.Error("the database was rewritten, and tokens cannot be checked", "error", err)
				w.db.gap()
			}
			return err
		}
		w.c.pepper.Store(&pepper)
		if err := claim(ctx, w.c.writer); err != nil {
			return err
		}
	}
	w.known = epoch
	w.db.logger.Info("the database was rewritten; everything is asked for again")
	w.db.gap()
	return nil
}
