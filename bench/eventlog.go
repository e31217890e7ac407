package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const (
	// Events a second that the log must take.
	sqliteLogTarget = 50_000
	redisLogTarget  = 100_000
	// logWindow is how many batches of [event.DefaultBatch] a window is of.
	logWindow = 50
)

// eventStore is where an event log is.
type eventStore struct {
	name   string
	target float64
	store  event.Store
	close  func() error
}

// sqliteLog is a database as the proxy has it.
func (l *lab) sqliteLog(ctx context.Context) (eventStore, error) {
	p := &population{engine: sqliteEngine, dsn: filepath.Join(l.dir, "events.db")}
	err := p.open(ctx)
	return eventStore{"SQLite", sqliteLogTarget, p.db, p.close}, err
}

// elsewhere is the database behind a stream whose events another node moves.
type elsewhere struct{}

func (elsewhere) AppendEvents(context.Context, []*event.Event) error {
	return errors.New("the stream does not take the events")
}

func (elsewhere) TryLease(context.Context, string, string, time.Duration) (bool, error) {
	return false, nil
}
func (elsewhere) ReleaseLease(context.Context, string, string) error { return nil }

// redisLog is a stream that this process only appends to.
func (l *lab) redisLog(ctx context.Context) (eventStore, error) {
	url, stop, err := startRedis("--appendonly", "yes")
	if err != nil {
		return eventStore{}, err
	}
	conn, err := redisconn.New(redisconn.Settings{URLs: []secret.Value{secret.NewValue(url)}}, nil)
	if err != nil {
		return eventStore{}, errors.Join(err, stop())
	}
	conn.Start()
	const key = "bench:events"
	stream, err := eventredis.New(eventredis.Config{
		Client: conn.Client(), Key: key, Database: elsewhere{}, Leases: elsewhere{}, MaxBytes: 1 << 40, Explain: conn.Explain,
	})
	if err != nil {
		return eventStore{}, errors.Join(err, conn.Close(), stop())
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stream.Run(running)
	}()
	e := eventStore{"Redis", redisLogTarget, stream, func() error {
		_ = conn.Client().Do(running, "DEL", key) // or it is read again
		end()
		<-ended
		return errors.Join(conn.Close(), stop())
	}}
	for begun := time.Now(); stream.Stats().Err != nil; {
		if time.Since(begun) > startWithin || pause(ctx, 10*time.Millisecond, nil) != nil {
			return eventStore{}, errors.Join(stream.Stats().Err, e.close())
		}
	}
	return e, nil
}

// someEvents are as many as there are in a batch, each with what an event usually has.
func someEvents(batch []*event.Event) error {
	for i := range batch {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		batch[i] = &event.Event{
			ID: id, Time: time.Now().UTC(), Method: "POST", Endpoint: chatPath, UpstreamRequestID: "req_0123456789abcdef0123456789abcdef",
			ProjectID: id, TokenID: id, KeyID: id, Provider: "openai", Model: "gpt-4o", ResponseModel: "gpt-4o-2024-08-06", ServiceTier: "default",
			Status: 200, Outcome: "ok", Stream: true, Attempts: 1, Latency: 2300 * time.Millisecond, TTFT: 400 * time.Millisecond, Overhead: 60 * time.Microsecond,
			BytesIn: 2048, BytesOut: 9000, InputTokens: event.Known(1500), CachedTokens: event.Known(1024), OutputTokens: event.Known(500), ReasoningTokens: event.Known(0),
			UsageSource: event.UsageProvider, CostNanoUSD: event.Known(6_000_000), PriceVersion: "2026-01-01", EndUser: "user-1234",
			Metadata: map[string]string{"team": "search", "environment": "production"},
		}
	}
	return nil
}

// fill appends batches, one after the other.
func (e eventStore) fill(ctx context.Context, batches int) (window, error) {
	w := window{units: float64(batches * event.DefaultBatch)}
	batch := make([]*event.Event, event.DefaultBatch)
	for range batches {
		if err := someEvents(batch); err != nil {
			return w, err
		}
		began := time.Now()
		if err := e.store.AppendEvents(ctx, batch); err != nil {
			return w, fmt.Errorf("%s: %w", e.name, err)
		}
		took := time.Since(began)
		w.took = append(w.took, took)
		w.elapsed += took
	}
	return w, nil
}

// takeEventLog: how many events a second the log takes.
func takeEventLog(ctx context.Context, l *lab) (found section, err error) {
	batches := logWindow
	if l.opts.quick {
		batches = 2
	}
	one := make([]*event.Event, 1)
	if err := someEvents(one); err != nil {
		return section{}, err
	}
	rates := table{columns: []string{"Log", "events/s: min", "median", "max", "Target"}}
	var all []*series
	for _, open := range []func(context.Context) (eventStore, error){l.sqliteLog, l.redisLog} {
		s, err := l.fillLog(ctx, open, batches, &rates)
		if err != nil {
			return section{}, err
		}
		all = append(all, s)
	}
	return section{
		title: "(l) Events that the log takes",
		text: fmt.Sprintf("Batches of %s events of %d bytes as JSON, one after the other, %d in a window; in process, on the load core. A batch counts when it would survive the process: SQLite has synced it (synchronous=FULL), "+
			"Redis has answered (appendonly yes, everysec). What Redis has, another node moves to the database, at the database's pace. Percentiles are a batch's.", thousands(event.DefaultBatch), len(one[0].AppendJSON(nil)), batches),
		tables: []table{rates, plainLatencyTable(all)},
	}, nil
}

func (l *lab) fillLog(ctx context.Context, open func(context.Context) (eventStore, error), batches int, rates *table) (_ *series, err error) {
	e, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	s := &series{target: &target{name: e.name + ", a batch"}}
	for round := range l.opts.rounds + 1 {
		w, err := e.fill(ctx, batches)
		if err != nil {
			return nil, err
		}
		if round > 0 { // the first one is for connections and statements
			s.windows = append(s.windows, w)
		}
	}
	rate := spreadOf(s.each((*window).rate))
	rates.add(e.name, thousands(rate.min), bold(thousands(rate.median)), thousands(rate.max),
		fmt.Sprintf("≥ %s: %s", thousands(e.target), map[bool]string{true: "met", false: "missed"}[rate.median >= e.target]))
	return s, nil
}
