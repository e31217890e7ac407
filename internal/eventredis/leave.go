package eventredis

import (
	"context"
	"errors"
)

// leave moves what was appended so far, whoever has the lease: those who go on
// without Redis would leave it there.
func (s *Stream) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := s.empty(ctx); err != nil && !errors.Is(err, errUnused) {
		s.cfg.Logger.Warn("events stay in Redis; they come into the database when `log redis` is used again", "error", err)
	}
}

var errUnused = errors.New("never used")

func (s *Stream) empty(ctx context.Context) error {
	s.mu.Lock()
	born := s.born
	s.mu.Unlock()
	if born == "" {
		return errUnused
	}
	look, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	last, err := s.cfg.Client.XRevRangeN(look, s.cfg.Key, "+", "-", 1).Result()
	if err != nil {
		return s.cfg.Explain(err)
	}
	if len(last) == 0 {
		return nil
	}
	return (&mover{s: s, quiet: true}).moveAll(ctx, last[0].ID, func() bool { return true })
}
