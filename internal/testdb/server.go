//go:build unix

package testdb

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

// server is a program with a directory and a port of its own, to be mistreated.
type server struct {
	tb      testing.TB
	dir     string
	port    int
	kept    []*testnet.Reservation
	as      *syscall.Credential
	binary  string
	args    []string
	polite  syscall.Signal // what an operator ends it with
	death   syscall.Signal // what it gets when nobody is left to end it
	alive   func() error   // asks for an answer
	process *process
}

// reserve gives the server a directory and a port.
func (s *server) reserve() error {
	var err error
	if s.dir, err = makeDir(s.as); err != nil {
		return err
	}
	if s.port, err = s.reservePort(); err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

func (s *server) reservePort() (int, error) {
	r, err := testnet.Reserve()
	if err != nil {
		return 0, err
	}
	s.kept = append(s.kept, r)
	return r.Port, nil
}

// start runs the server. A killed server's memory takes a moment to go.
func (s *server) start() error { return persist(s.startOnce) }

func (s *server) startOnce() error {
	p, err := start(s.dir, filepath.Join(s.dir, "log"), s.as, s.death, s.binary, s.args...)
	if err != nil {
		return err
	}
	if err := p.await(s.alive); err != nil {
		return errors.Join(err, p.kill())
	}
	s.process = p
	return nil
}

// close ends the server, removes its data and gives its ports back.
func (s *server) close() error {
	var err error
	if s.process != nil && !s.process.ended() {
		err = errors.Join(s.process.thaw(), s.process.end(s.death))
	}
	err = errors.Join(err, os.RemoveAll(s.dir))
	for _, r := range s.kept {
		err = errors.Join(err, r.Close())
	}
	return err
}

// owned is the server of one test.
func (s *server) owned(tb testing.TB) {
	s.tb = tb
	tb.Cleanup(func() {
		if err := s.close(); err != nil {
			tb.Error(err)
		}
	})
}

// Stop ends every connection and the server, as an operator's restart does.
func (s *server) Stop() {
	s.tb.Helper()
	s.must(s.process.end(s.polite))
}

// Start starts the server again, where it was before.
func (s *server) Start() {
	s.tb.Helper()
	s.must(s.start())
}

// Kill ends the server as a power cut would.
func (s *server) Kill() {
	s.tb.Helper()
	s.must(s.process.kill())
}

// Pause freezes the server: connections stay open, and nobody answers.
func (s *server) Pause() {
	s.tb.Helper()
	_, err := s.process.freeze()
	s.must(err)
}

// Resume ends a Pause.
func (s *server) Resume() {
	s.tb.Helper()
	s.must(s.process.thaw())
}

func (s *server) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}
