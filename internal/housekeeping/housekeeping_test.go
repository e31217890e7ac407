package housekeeping

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a database with some rows and one lease.
type house struct {
	mu      sync.Mutex
	owner   string
	until   time.Time
	rows    int64
	batches int
	err     error
	byOwner map[string]int
}

func (h *house) TryLease(_ context.Context, _, owner string, ttl time.Duration) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return false, h.err
	}
	if h.owner != owner && time.Now().Before(h.until) {
		return false, nil
	}
	h.owner, h.until = owner, time.Now().Add(ttl)
	h.byOwner[owner]++
	return true, nil
}

func (h *house) ReleaseLease(_ context.Context, _, owner string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.owner == owner {
		h.owner, h.until = "", time.Time{}
	}
	return nil
}

func (h *house) delete(_ context.Context, age time.Duration, limit int) (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if age != time.Hour || limit > 500 {
		return 0, errors.New("wrong age or limit")
	}
	n := min(h.rows, int64(limit))
	h.rows -= n
	h.batches++
	return n, nil
}

func (h *house) jobs() []Job {
	return []Job{
		{Name: "kept", Delete: func(context.Context, time.Duration, int) (int64, error) { return 0, errors.New("must not run") }},
		{Name: "rows", Age: time.Hour, Delete: h.delete},
	}
}

func (h *house) state() (rows int64, batches int, owner string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rows, h.batches, h.owner
}

func TestOneNodeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &house{rows: 1234, byOwner: map[string]int{}}
		log := &bytes.Buffer{}
		cfg := Config{Store: h, Jobs: h.jobs, Logger: slog.New(slog.NewTextHandler(log, nil))}
		nodes := make([]context.CancelFunc, 3)
		var running sync.WaitGroup
		for i := range nodes {
			var ctx context.Context
			ctx, nodes[i] = context.WithCancel(t.Context())
			node := cfg
			node.Pause = func(d time.Duration) time.Duration { return d + time.Duration(i)*time.Minute }
			running.Go(func() { Run(ctx, node) })
		}
		<-time.After(10*time.Minute - time.Second)
		if rows, _, _ := h.state(); rows != 1234 {
			t.Errorf("%d rows before the first round", rows)
		}
		<-time.After(10 * time.Minute)
		synctest.Wait()
		rows, batches, first := h.state()
		if rows != 0 || batches != 3 || len(h.byOwner) != 1 {
			t.Errorf("%d rows after %d batches by %d nodes", rows, batches, len(h.byOwner))
		}
		nodes[0]()
		<-time.After(15 * time.Minute)
		synctest.Wait()
		if _, _, owner := h.state(); owner == "" || owner == first {
			t.Errorf("the lease of a node that has stopped is %q's, was %q's", owner, first)
		}
		nodes[1]()
		nodes[2]()
		running.Wait()
		if _, _, owner := h.state(); owner != "" {
			t.Errorf("the lease is still %q's", owner)
		}
		if n := strings.Count(log.String(), "deleted=1234"); n != 1 {
			t.Errorf("log: %s", log)
		}
	})
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &house{rows: 3, byOwner: map[string]int{}, err: errors.New("database unavailable")}
		log := &bytes.Buffer{}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { Run(ctx, Config{Store: h, Jobs: h.jobs, Logger: slog.New(slog.NewTextHandler(log, nil))}) })
		<-time.After(16 * time.Minute)
		synctest.Wait()
		if !strings.Contains(log.String(), "database unavailable") {
			t.Errorf("log: %s", log)
		}
		h.mu.Lock()
		h.err = nil
		h.mu.Unlock()
		<-time.After(16 * time.Minute)
		stop()
		running.Wait()
		if rows, _, _ := h.state(); rows != 0 {
			t.Errorf("%d rows are left", rows)
		}
	})
}
