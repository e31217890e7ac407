package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// heartbeat is how often the listening connection is tried, and silence how
	// long it may go without hearing its own heartbeat.
	heartbeat = 2 * time.Second
	silence   = 6 * time.Second
	// beatTimeout bounds one heartbeat. A server that does not answer for so long
	// hangs, or is on the far side of a broken network.
	beatTimeout = 4 * time.Second

	followMin = 50 * time.Millisecond // between attempts to listen again
	followMax = 500 * time.Millisecond

	// goodbye bounds the closing of a listening connection.
	goodbye = 100 * time.Millisecond
)

var errSilent = errors.New("the server does not deliver announcements")

// listening is a connection that hears announcements.
type listening struct {
	p      *postgresDB
	f      follower
	conn   *pgx.Conn
	own    string // channel of its heartbeats
	heard  time.Time
	beatAt time.Time
}

// follow listens on a connection of its own until stop.
func (p *postgresDB) follow(ctx context.Context, f follower) (stop func(), err error) {
	first, err := p.listen(ctx, f)
	if err != nil {
		return nil, err
	}
	// What is heard outlives ctx, which ends with the attempt to open.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.followOn(ctx, f, first)
	}()
	return func() { cancel(); <-done }, nil
}

// followOn listens, and listens again whenever that ends.
func (p *postgresDB) followOn(ctx context.Context, f follower, l *listening) {
	for {
		err := l.attend(ctx)
		l.close()
		if ctx.Err() != nil {
			return
		}
		p.logger.Warn("hearing nothing of other nodes' changes; listening again", "error", err)
		if l = p.listenAgain(ctx, f); l == nil {
			return
		}
		f.gap() // now that nothing more is missed
		p.logger.Info("hearing of other nodes' changes again")
	}
}

// listenAgain tries at once and then in growing intervals. It returns nil when
// ctx ends.
func (p *postgresDB) listenAgain(ctx context.Context, f follower) *listening {
	for pause := followMin; ; pause = min(2*pause, followMax) {
		l, err := p.listen(ctx, f)
		if err == nil {
			return l
		}
		p.logger.Debug("listening for other nodes' changes", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// listen connects and begins to hear.
func (p *postgresDB) listen(ctx context.Context, f follower) (*listening, error) {
	conn, err := pgx.ConnectConfig(ctx, p.config.Copy())
	if err != nil {
		return nil, cleanConnectError(err)
	}
	l := &listening{p: p, f: f, conn: conn, own: heartbeatChannel(p.node), heard: time.Now()}
	for _, channel := range []string{changesChannel, purgesChannel, l.own} {
		if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{channel}.Sanitize()); err != nil {
			l.close()
			return nil, fmt.Errorf("listening for other nodes' changes: %w", err)
		}
	}
	if err := l.beat(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// attend passes on what is heard until the connection fails.
func (l *listening) attend(ctx context.Context) error {
	for {
		if !time.Now().Before(l.beatAt) {
			if time.Since(l.heard) > silence {
				return errSilent
			}
			if err := l.beat(ctx); err != nil {
				return err
			}
		}
		wait, cancel := context.WithDeadline(ctx, l.beatAt)
		n, err := l.conn.WaitForNotification(wait)
		beat := wait.Err() != nil && ctx.Err() == nil && !l.conn.IsClosed()
		cancel()
		switch {
		case err == nil && n.Channel == l.own:
			l.heard = time.Now()
		case err == nil && n.Channel == purgesChannel:
			l.p.receivePurge(n.Payload, l.f)
		case err == nil:
			l.p.receive(n.Payload, l.f)
		case !beat:
			return fmt.Errorf("listening for other nodes' changes: %w", err)
		}
	}
}

// beat sends a heartbeat to ourselves and compares the clocks by the way. When
// the server does not answer, it will not answer others of ours either.
func (l *listening) beat(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	var micros int64
	begun := time.Now()
	err := l.conn.QueryRow(bounded, `SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint FROM pg_notify($1, '')`, l.own).Scan(&micros)
	if err != nil {
		if bounded.Err() != nil && ctx.Err() == nil {
			l.p.logger.Error("the database does not answer: all connections to it are closed", "waited", beatTimeout)
			l.p.wires.cut()
		}
		return fmt.Errorf("sending a heartbeat: %w", err)
	}
	took := time.Since(begun)
	l.f.clock(time.UnixMicro(micros).Sub(evenly(begun.Add(took / 2))))
	l.beatAt = time.Now().Add(heartbeat)
	return nil
}

// close does not wait for a server that hangs.
func (l *listening) close() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	_ = l.conn.Close(ctx) // whatever it says, nobody listens any more
}
