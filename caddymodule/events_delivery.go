package caddymodule

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
)

// sinks deliver a database's event log. They belong to the database, so that a
// reload that keeps the database keeps what is known of them, and a sink of the old
// configuration is done before that of the new one begins.
type sinks struct {
	d      *database
	mu     sync.Mutex
	engine atomic.Pointer[delivery.Engine] // nil before there was a configuration
}

func newSinks(d *database) *sinks { return &sinks{d: d} }

// attach makes a configuration's sinks those that are delivered to, until it is
// detached: before its modules are cleaned up, for which detach waits. The database
// need not answer yet.
func (s *sinks) attach(cfg eventsConfig) (detach func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	engine := s.engine.Load()
	if engine == nil {
		store := s.d.store.Load()
		if store == nil {
			return nil, errors.New("llm_proxy > events: the database is not there yet")
		}
		c := delivery.Config{Store: store, Logger: s.d.logger}
		if s.d.cfg.driver != driverSQLite { // other nodes use it too
			c.Leases = store
		}
		engine = delivery.New(c)
		s.engine.Store(engine)
	}
	return engine.Attach(cfg.sinks)
}

// Wake says that events were committed. It waits for nothing.
func (s *sinks) Wake() {
	if engine := s.engine.Load(); engine != nil {
		engine.Wake()
	}
}

// Names are the sinks that count: events that one of them does not have stay in the
// log, whatever their age.
func (s *sinks) Names() []string {
	if engine := s.engine.Load(); engine != nil {
		return engine.Names()
	}
	return nil
}

// close stops deliveries. The store must still be open.
func (s *sinks) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if engine := s.engine.Load(); engine != nil {
		engine.Close()
	}
}
