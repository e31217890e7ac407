package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const (
	// stormRate is how many requests a second a storm is of, stormConns over how
	// many connections they come.
	stormRate  = 10_000
	stormConns = 64
	// stormTarget is how much longer a valid token's request may take meanwhile.
	stormTarget = 2
)

// storm is requests with refused tokens, as many a second as asked for, whatever
// becomes of them.
type storm struct {
	addr    string
	next    func() (string, error) // token, of always the same length
	begun   time.Time
	sent    atomic.Int64
	refused atomic.Int64 // 401
	busy    atomic.Int64 // 503
	stop    atomic.Bool
	running sync.WaitGroup
	failed  chan error
}

// startStorm begins one. It goes on until ended.
func (l *lab) startStorm(ctx context.Context, addr string, next func() (string, error)) (*storm, error) {
	s := &storm{addr: addr, next: next, begun: time.Now(), failed: make(chan error, stormConns)}
	for range stormConns {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp4", addr)
		if err != nil {
			s.stop.Store(true)
			s.running.Wait()
			return nil, fmt.Errorf("a storm on %s: %w", addr, err)
		}
		s.running.Go(func() {
			defer conn.Close()
			if err := s.blow(newClient(conn)); err != nil {
				s.failed <- err
			}
		})
	}
	return s, nil
}

// blow sends over one connection. Requests have their times: a proxy that falls
// behind gets what it missed as soon as it answers.
func (s *storm) blow(c *client) error {
	token, err := s.next()
	if err != nil {
		return err
	}
	request := chatRequest(s.addr, token, whole)
	at := strings.Index(string(request), token)
	for !s.stop.Load() {
		due := s.begun.Add(time.Duration(s.sent.Add(1)) * time.Second / stormRate)
		if token, err = s.next(); err != nil {
			return err
		}
		copy(request[at:], token)
		time.Sleep(time.Until(due))
		if err := c.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		a, err := c.do(request)
		switch {
		case err != nil:
			return fmt.Errorf("in a storm: %w", err)
		case a.status == http.StatusUnauthorized:
			s.refused.Add(1)
		case a.status == http.StatusServiceUnavailable:
			s.busy.Add(1)
		default:
			return fmt.Errorf("in a storm, a refused token was answered %d", a.status)
		}
	}
	return nil
}

// end returns how many requests a second were answered, and which part of them 503.
func (s *storm) end() (rate, busy float64, err error) {
	s.stop.Store(true)
	s.running.Wait()
	took := time.Since(s.begun).Seconds()
	select {
	case err = <-s.failed:
	default:
	}
	all := float64(s.refused.Load() + s.busy.Load())
	return all / took, float64(s.busy.Load()) / max(all, 1), err
}

// weather is what goes on while a valid token is used.
type weather struct {
	name string
	next func(valid string) func() (string, error) // nil: nothing
}

var weathers = []weather{
	{"no storm", nil},
	{"malformed tokens", func(valid string) func() (string, error) {
		return func() (string, error) { return malformedToken(valid), nil }
	}},
	{"unknown tokens", func(string) func() (string, error) {
		return func() (string, error) {
			text, _, err := token.Mint(time.Now())
			return text, err
		}
	}},
}

// takeStorm: a token that everybody knows is used while others guess.
func takeStorm(ctx context.Context, l *lab) (section, error) {
	ratios := table{columns: ratioOfLatencyColumns}
	storms := table{columns: []string{"Storm", "answered/s: min", "median", "max", "of them 503", "CPU of the proxy's core"}}
	var all []*series
	for _, e := range engines {
		v, err := l.stormVariant(e)
		if err != nil {
			return section{}, err
		}
		base, err := l.target(ctx, v, whole)
		if err != nil {
			return section{}, err
		}
		valid, err := l.server(ctx, v)
		if err != nil {
			return section{}, err
		}
		ours := make([]*series, len(weathers))
		rates, busy := make([][]float64, len(weathers)), make([][]float64, len(weathers))
		for i, w := range weathers {
			t := *base
			t.name = fmt.Sprintf("%s, %s", e, w.name)
			ours[i] = &series{target: &t}
		}
		for round := range l.opts.rounds + 1 {
			for i, w := range weathers {
				found, rate, part, err := l.weather(ctx, ours[i].target, w, valid.token)
				if err != nil {
					return section{}, base.process.explain(err)
				}
				if round > 0 { // the first requests of a process are unlike all others
					ours[i].windows = append(ours[i].windows, found)
					rates[i], busy[i] = append(rates[i], rate), append(busy[i], part)
				}
			}
		}
		ratios.compareLatency(string(e)+", unknown tokens ÷ no storm", ours[2], ours[0], stormTarget)
		ratios.compareLatency(string(e)+", malformed tokens ÷ no storm", ours[1], ours[0], 0)
		for i := range weathers {
			r := spreadOf(rates[i])
			storms.add(ours[i].target.name, thousands(r.min), thousands(r.median), thousands(r.max), percent(spreadOf(busy[i]).median),
				measured(spreadOf(ours[i].each(func(w *window) float64 { return w.share(w.proxy + w.others) })).median, percent))
		}
		all = append(all, ours...)
	}
	return section{
		title: "(j) A storm of unknown tokens",
		text: fmt.Sprintf("One connection, a chat completion after the other with a token that is known, while %s requests a second come over %d other connections with tokens that do not exist, each a different one, well-formed; windows of %s. "+
			"Malformed tokens, which are refused without the database, tell what is the price of refusing alone. PostgreSQL runs on the load core.", thousands(stormRate), stormConns, l.opts.half()),
		tables: []table{ratios, plainLatencyTable(all), storms},
		notes:  saturation(all),
	}, nil
}

// weather measures one window in it.
func (l *lab) weather(ctx context.Context, t *target, w weather, valid string) (found window, rate, busy float64, err error) {
	if w.next != nil {
		s, err := l.startStorm(ctx, t.addr, w.next(valid))
		if err != nil {
			return found, 0, 0, err
		}
		defer func() {
			var ended error
			rate, busy, ended = s.end()
			err = errors.Join(err, ended)
		}()
	}
	found, err = l.drive(ctx, t, 1, warmUp(l.opts.half()), l.opts.half(), true)
	return found, 0, 0, err
}

// stormVariant is the proxy on a kind of database.
func (l *lab) stormVariant(e engine) (variant, error) {
	if e == sqliteEngine {
		return governedPlain, nil
	}
	server, err := l.postgres()
	if err != nil {
		return variant{}, err
	}
	dsn, err := server.database()
	if err != nil {
		return variant{}, err
	}
	v := governedPlain
	v.name = "llm_proxy on PostgreSQL"
	v.global = func(l *lab, _ string) string {
		return governedApp("postgres "+dsn+"\n\t\tencryption_key "+secret.NewKey(), "http://"+l.info.Plain)
	}
	return v, nil
}
