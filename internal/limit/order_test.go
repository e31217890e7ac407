package limit_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// delay keeps the next script from being sent until it is told to.
type delay struct {
	armed   atomic.Bool
	waiting chan struct{}
	leave   chan struct{}
}

func (d *delay) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (d *delay) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" && d.armed.CompareAndSwap(true, false) {
			close(d.waiting)
			<-d.leave
		}
		return next(ctx, cmd)
	}
}

func (d *delay) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestSlotsOutOfOrder: a number of slots that comes late does not replace a newer one.
func TestSlotsOutOfOrder(t *testing.T) {
	t.Parallel()
	url := testdb.Redis(t)
	conn := connect(t, url)
	quiet := func(r *limit.Redis) {
		r.SetQuiet()
		r.SetTimeout(time.Minute)
	}
	a, b := node(t, conn, nil, quiet), node(t, connect(t, url), nil, quiet)
	d := slots("a", 2)
	mustTake(t, a, d).Release() // both scripts are known
	a.Flush()
	late := &delay{waiting: make(chan struct{}), leave: make(chan struct{})}
	conn.Client().AddHook(late)
	late.armed.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, err := a.Take(context.Background(), limit.Request{Demands: []limit.Demand{d}}, new(limit.Ticket)); err != nil || !got.Admitted {
			t.Errorf("the first: %+v, %v", got, err)
		}
	})
	<-late.waiting
	mustTake(t, a, d)
	close(late.leave)
	wg.Wait()
	mustRefuse(t, b, d)
	mustRefuse(t, a, d)
}
