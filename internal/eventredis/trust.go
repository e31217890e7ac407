package eventredis

import (
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// sayEvery is how often another reason for the same is worth a line in the log.
const sayEvery = 10 * time.Second

// trust has events go to Redis from now on.
func (s *Stream) trust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		return
	}
	s.why, s.said = nil, ""
	s.ready.Store(true)
	s.cfg.Logger.Info("events go to Redis, and from there into the database")
}

// distrust has events go to the database from now on.
func (s *Stream) distrust(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready.Store(false)
	s.why = why
	if s.said == "" || s.said != why.Error() && time.Since(s.saidAt) > sayEvery {
		s.said, s.saidAt = why.Error(), time.Now()
		s.cfg.Logger.Error("events go to the database, as Redis does not take them", "error", why)
	}
}

// refusal reports whether Redis answered, and said no.
func refusal(err error) bool {
	refused := redis.Error(nil)
	return errors.As(err, &refused)
}
