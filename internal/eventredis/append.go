package eventredis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

const (
	field = "events" // of an entry; its value is events' JSON, a line each

	// maxEntry is how many bytes of events share an entry: entries cost much more
	// than what is in them.
	maxEntry = 64 << 10

	// appendTimeout is how long Redis may take for a batch of events, and appendRate,
	// in bytes a second, how much longer for a large one. A request does not wait for
	// that: the log itself is patient for a shorter time.
	appendTimeout = 250 * time.Millisecond
	appendRate    = 64 << 20

	maxBuffer = 4 << 20 // bytes that are kept for the next batch
)

var errVanished = errors.New("the stream is gone from Redis")

// AppendEvents implements [event.Store]: Redis takes the events, or else the
// database. When Redis fails in the middle the database gets all of them; what is
// in both is there once in the end, as events are told apart by their ids.
func (s *Stream) AppendEvents(ctx context.Context, events []*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	err := s.tryRedis(ctx, events)
	if err == nil {
		s.appended.Add(int64(len(events)))
		poke(s.hurried)
		return nil
	}
	if s.ready.Load() && ctx.Err() == nil {
		s.distrust(err)
		poke(s.doubted)
	}
	if err := s.cfg.Database.AppendEvents(ctx, events); err != nil {
		return err
	}
	s.bypassed.Add(int64(len(events)))
	s.cfg.Moved()
	return nil
}

var errNotReady = errors.New("not using Redis at the moment")

func (s *Stream) tryRedis(ctx context.Context, events []*event.Event) error {
	s.using.RLock()
	defer s.using.RUnlock()
	if s.ended || !s.ready.Load() {
		return errNotReady
	}
	buf, _ := s.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer func() {
		if cap(*buf) <= maxBuffer {
			s.buffers.Put(buf)
		}
	}()
	ends, err := appendEntries(buf, events)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout+time.Duration(len(*buf))*time.Second/appendRate)
	defer cancel()
	pipe := s.cfg.Client.Pipeline()
	from := 0
	var last *redis.Cmd
	for _, end := range ends {
		last = pipe.Do(ctx, "XADD", s.cfg.Key, "NOMKSTREAM", "*", field, (*buf)[from:end:end])
		from = end
	}
	if _, err := pipe.Exec(ctx); errors.Is(err, redis.Nil) {
		return errVanished
	} else if err != nil {
		return s.cfg.Explain(err)
	}
	id, err := last.Text()
	if err != nil {
		return fmt.Errorf("the answer to XADD: %w", err)
	}
	s.note(id, len(events))
	return nil
}

// appendEntries writes events as the values of entries, and says where they end.
func appendEntries(buf *[]byte, events []*event.Event) (ends []int, err error) {
	b, begun := (*buf)[:0], 0
	for _, e := range events {
		if e.ID.IsNil() {
			return nil, fmt.Errorf("appending events: one of %d has no id", len(events)) // the database says so too
		}
		from := len(b)
		b = append(e.AppendJSON(b), '\n')
		if from > begun && len(b)-begun > maxEntry {
			ends, begun = append(ends, from), from
		}
	}
	*buf = b
	return append(ends, len(b)), nil
}
