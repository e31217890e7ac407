package storage

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// closeTimeout is how long closing waits for the server to take notice.
const closeTimeout = time.Second

// wires are the network connections that are open, so that all can be cut: one
// that hangs is told from one that waits only by who is on the other end, and
// the heartbeat finds that out for all of them.
type wires struct {
	mu   sync.Mutex
	open map[*wire]struct{}
}

// wire is one of the connections.
type wire struct {
	net.Conn
	of *wires
}

// Close implements [net.Conn]. Closing what was cut is no error.
func (w *wire) Close() error {
	w.of.mu.Lock()
	_, open := w.of.open[w]
	delete(w.of.open, w)
	w.of.mu.Unlock()
	if !open {
		return nil
	}
	return w.Conn.Close()
}

// dial makes connections through next.
func (ws *wires) dial(next pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := next(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w := &wire{conn, ws}
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if ws.open == nil {
			ws.open = make(map[*wire]struct{})
		}
		ws.open[w] = struct{}{}
		return w, nil
	}
}

// cut ends all connections that are open now; who waits on one gets an error.
func (ws *wires) cut() {
	for _, w := range ws.list() {
		_ = w.Close() // whatever it says, it is of no use any more
	}
}

func (ws *wires) list() []*wire {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return slices.Collect(maps.Keys(ws.open))
}
