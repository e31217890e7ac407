package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// target is one variant under load: where it listens, what it is sent and what
// it must answer.
type target struct {
	name    string
	addr    string
	process *process // whose CPU time counts
	request []byte
	status  int
	length  int    // of the body; 0: any, but not empty
	unit    int    // bytes of body that are counted as one; 0: answers are counted
	mark    string // beginning of a header line that every answer has, in lower case; empty: none
}

// check holds an answer against what the target must give.
func (t *target) check(a answer) error {
	if a.status != t.status || a.length == 0 || t.length > 0 && a.length != t.length {
		return fmt.Errorf("%s answered %d with %d bytes; expected %d with %d", t.name, a.status, a.length, t.status, t.length)
	}
	if t.mark != "" && !a.marked {
		return fmt.Errorf("%s answered without a header line that begins with %q", t.name, t.mark)
	}
	return nil
}

// client is a new connection to the target.
func (t *target) client(ctx context.Context, deadline time.Time) (*client, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp4", t.addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := newClient(conn)
	c.mark = t.mark
	return c, nil
}

// ask sends each requests over each of conns connections.
func (t *target) ask(ctx context.Context, conns, each int) error {
	var running sync.WaitGroup
	failed := make(chan error, conns)
	for range conns {
		c, err := t.client(ctx, time.Now().Add(startWithin))
		if err != nil {
			failed <- err
			break
		}
		running.Go(func() {
			defer c.conn.Close()
			for range each {
				a, err := c.do(t.request)
				if err == nil {
					err = t.check(a)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// settle asks until the target answers as it shall from now on: a cache has
// stored the answer, a server that the proxy needs was found.
func (t *target) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		err := t.ask(ctx, 1, 1)
		if err == nil {
			return nil
		}
		if waited := pause(ctx, 20*time.Millisecond, nil); waited != nil {
			return t.process.explain(errors.Join(waited, err))
		}
	}
}

// window is what was measured of a target in one go.
type window struct {
	units   float64 // answers, or frames of streams
	elapsed time.Duration
	proxy   time.Duration // CPU time of the target
	load    time.Duration // CPU time of the load generator and the provider
	others  time.Duration // CPU time that others took from the proxy's core
	writes  int64         // system calls of the target
	took    []time.Duration
	first   []time.Duration
}

// rate is units per second.
func (w *window) rate() float64 { return w.units / w.elapsed.Seconds() }

// cpu is the target's CPU time per unit, in microseconds.
func (w *window) cpu() float64 { return float64(w.proxy.Nanoseconds()) / 1e3 / w.units }

// batch is how many units went into one write.
func (w *window) batch() float64 { return ratio(w.units, float64(w.writes)) }

// share is a CPU time as part of the window.
func (w *window) share(d time.Duration) float64 { return d.Seconds() / w.elapsed.Seconds() }

// maxSamples bounds the durations that a window remembers.
const maxSamples = 1 << 18

// worker drives one connection.
type worker struct {
	done    atomic.Int64
	bytes   atomic.Int64
	_       [48]byte // one worker's counters on one cache line
	measure *atomic.Bool
	stop    *atomic.Bool
	took    []time.Duration // with sampling
	first   []time.Duration
}

func (k *worker) work(c *client, t *target, sample bool) error {
	for !k.stop.Load() {
		a, err := c.do(t.request)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if err := t.check(a); err != nil {
			return err
		}
		if sample && k.measure.Load() && len(k.took) < maxSamples {
			k.took = append(k.took, a.took)
			k.first = append(k.first, a.first)
		}
		k.done.Add(1)
	}
	return nil
}

// drive loads a target over conns connections, first unmeasured for warm, then
// measured for length. Answers that are not as expected are an error.
func (l *lab) drive(ctx context.Context, t *target, conns int, warm, length time.Duration, sample bool) (window, error) {
	var w window
	var measure, stop atomic.Bool
	var running sync.WaitGroup
	workers := make([]worker, conns)
	failed := make(chan error, conns)
	defer running.Wait()
	defer stop.Store(true)
	deadline := time.Now().Add(warm + length + 10*time.Second)
	for i := range workers {
		c, err := t.client(ctx, deadline)
		if err != nil {
			return w, err
		}
		k := &workers[i]
		k.measure, k.stop = &measure, &stop
		running.Go(func() {
			defer c.conn.Close()
			if t.unit > 0 {
				c.received = &k.bytes
			}
			if err := k.work(c, t, sample); err != nil {
				failed <- err
			}
		})
	}
	if err := pause(ctx, warm, failed); err != nil {
		return w, err
	}
	before := l.count(t, workers)
	measure.Store(true)
	if err := pause(ctx, length, failed); err != nil {
		return w, err
	}
	after := l.count(t, workers)
	for after.units == before.units { // a short window on a busy machine: the connections' deadline ends this
		if err := pause(ctx, 5*time.Millisecond, failed); err != nil {
			return w, err
		}
		after = l.count(t, workers)
	}
	measure.Store(false)
	stop.Store(true)
	running.Wait()
	select {
	case err := <-failed:
		return w, err
	default:
	}
	w = window{
		units:   after.units - before.units,
		elapsed: after.at.Sub(before.at),
		proxy:   after.proxy - before.proxy,
		load:    after.load - before.load,
		writes:  after.writes - before.writes,
	}
	w.others = max(0, after.core-before.core-w.proxy)
	for i := range workers {
		w.took = append(w.took, workers[i].took...)
		w.first = append(w.first, workers[i].first...)
	}
	return w, nil
}

// count is the state of all counters at one moment.
type count struct {
	at                time.Time
	units             float64
	proxy, load, core time.Duration
	writes            int64
}

func (l *lab) count(t *target, workers []worker) count {
	c := count{at: time.Now()}
	for i := range workers {
		if t.unit > 0 {
			c.units += float64(workers[i].bytes.Load()) / float64(t.unit)
		} else {
			c.units += float64(workers[i].done.Load())
		}
	}
	if t.process != l.upstream {
		c.proxy, c.writes = t.process.cpuTime(), t.process.writes()
	}
	c.load = ownCPUTime() + l.upstream.cpuTime()
	c.core = l.pins.proxyCoreTime()
	return c
}

// pause waits unless something fails first.
func pause(ctx context.Context, d time.Duration, failed <-chan error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
