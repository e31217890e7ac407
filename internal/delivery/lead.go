package delivery

import (
	"context"
	"time"
)

// One node at a time delivers to a sink. It holds a lease, which it renews while it
// works, and which ends by itself if it dies: another node takes over within
// leaseTime + leasePoll.
const (
	leaseTime  = 8 * time.Second
	leaseRenew = 2 * time.Second
	leasePoll  = 2 * time.Second
	// leaseMargin is how long before its end a lease that could not be renewed is
	// taken to be lost.
	leaseMargin = 2 * time.Second
)

func (w *worker) leaseName() string { return "sink:" + w.spec.Name }

// lead works whenever no other node does.
func (w *worker) lead() {
	for w.soft.Err() == nil {
		asked := time.Now()
		var has bool
		ok := w.insist(w.soft, "asking for the sink's lease", func(ctx context.Context) (err error) {
			asked = time.Now()
			has, err = w.leases.TryLease(ctx, w.leaseName(), w.owner, leaseTime)
			return err
		})
		switch {
		case !ok:
			return
		case has:
			w.work(asked)
		default:
			w.gauge.state(Standby)
			sleep(w.soft, leasePoll)
		}
	}
}

// work consumes for as long as the lease, had since a moment, is kept.
func (w *worker) work(since time.Time) {
	soft, stopSoft := context.WithCancel(w.soft)
	hard, stopHard := context.WithCancel(w.hard)
	defer stopSoft()
	defer stopHard()
	kept, kill := true, make(chan struct{})
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		if kept = w.keep(kill, since); !kept {
			w.logger.Warn("the sink's lease is lost to another node, or could not be renewed")
			stopSoft()
			stopHard()
		}
	}()
	w.consume(soft, hard)
	close(kill)
	<-renewed
	if !kept {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.soft), storeTimeout)
	defer cancel()
	if err := w.leases.ReleaseLease(ctx, w.leaseName(), w.owner); err != nil {
		w.logger.Warn("the sink's lease was not given back; it ends by itself", "error", Reason(err))
	}
}

// keep renews the lease until told to end, and reports whether it still has it.
func (w *worker) keep(end <-chan struct{}, since time.Time) bool {
	ticker := time.NewTicker(leaseRenew)
	defer ticker.Stop()
	for {
		select {
		case <-end:
			return true
		case <-ticker.C:
		}
		asked := time.Now()
		ctx, cancel := context.WithDeadline(context.WithoutCancel(w.soft), since.Add(leaseTime-leaseMargin))
		has, err := w.leases.TryLease(ctx, w.leaseName(), w.owner, leaseTime)
		cancel()
		switch {
		case err == nil && !has:
			return false
		case err == nil:
			since = asked
		case time.Since(since) >= leaseTime-leaseMargin:
			return false
		}
	}
}
