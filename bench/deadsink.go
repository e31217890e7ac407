package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
)

// deadSinkTarget is how much longer a request may take beside a sink that is away.
const deadSinkTarget = 1.1

// silence is a receiver that takes connections and requests, and never answers.
type silence struct {
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newSilence() (*silence, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &silence{listener: l}
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn) // what it is sent fills its buffers
			s.mu.Unlock()
		}
	})
	return s, nil
}

// asked reports whether somebody has come.
func (s *silence) asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) > 0
}

func (s *silence) close() error {
	err := s.listener.Close()
	s.running.Wait()
	for _, conn := range s.conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// withSink is the proxy with a sink, given by its options.
func withSink(name string, options ...string) variant {
	v := governedPlain
	v.name = "llm_proxy, " + name
	v.global = func(l *lab, dir string) string {
		block := "events {\n\t\t\tsink bench {\n\t\t\t\t" + strings.NewReplacer("{dir}", dir).Replace(strings.Join(options, "\n\t\t\t\t")) + "\n\t\t\t}\n\t\t}\n"
		return governedApp(sqliteIn(dir)+"\n\t\t"+block, "http://"+l.info.Plain)
	}
	return v
}

// takeDeadSink: a request's time while its events cannot be delivered.
func takeDeadSink(ctx context.Context, l *lab) (found section, err error) {
	receiver, err := newSilence()
	if err != nil {
		return section{}, err
	}
	defer func() { err = errors.Join(err, receiver.close()) }()
	nobody, release, err := reserve()
	if err != nil {
		return section{}, err
	}
	l.after = append(l.after, release)
	hangs := withSink("webhook that never answers", "type webhook", "url http://"+receiver.listener.Addr().String()+"/", "timeout 1s")
	targets, err := l.targets(ctx, whole, governedPlain,
		withSink("file", "type file", "path "+filepath.Join("{dir}", "events.jsonl")),
		hangs, withSink("webhook that nobody listens to", "type webhook", "url http://"+nobody+"/"))
	if err != nil {
		return section{}, err
	}
	targets[0].name = "llm_proxy, no sink"
	all, err := l.interleave(ctx, targets, 1, l.opts.half(), true)
	if err != nil {
		return section{}, err
	}
	if !receiver.asked() {
		return section{}, errors.New("nothing was sent to the sink that never answers")
	}
	ratios := table{columns: ratioOfLatencyColumns}
	ratios.compareLatency("never answers ÷ no sink", all[2], all[0], deadSinkTarget)
	ratios.compareLatency("nobody listens ÷ no sink", all[3], all[0], deadSinkTarget)
	ratios.compareLatency("a file, which works ÷ no sink", all[1], all[0], 0)
	return section{
		title: "(k) Beside a dead sink",
		text: fmt.Sprintf("One connection, a chat completion after the other, every one with its event in SQLite; windows of %s. "+
			"The webhook's receiver takes what it is sent and never answers (an attempt ends after a second), or is not there at all. The file gets every event.", l.opts.half()),
		tables: []table{ratios, plainLatencyTable(all), throughputTable("request", all)},
	}, nil
}
