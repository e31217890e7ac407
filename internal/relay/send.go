package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// sender publishes one node's messages, one after the other.
type sender struct {
	r       *Relay
	client  Client
	channel string
	number  uint64        // of the last message with changes
	pause   time.Duration // before the next try, while Redis does not take messages
	said    bool
}

func (s *sender) run(ctx context.Context) {
	timer := time.NewTimer(0) // a first sign of life
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.leave()
			return
		case c := <-s.r.queue:
			if s.pause > 0 {
				s.r.lost.Store(true) // as all others until Redis takes messages again
				continue
			}
			s.send(ctx, message{kind: kindChanges, changes: s.batch(c)})
		case <-timer.C:
			s.send(ctx, message{kind: kindAlive})
		}
		wait := beatEvery
		if s.pause > 0 {
			wait = s.pause/2 + rand.N(s.pause)
		}
		timer.Reset(wait)
	}
}

// batch takes what else is waiting.
func (s *sender) batch(first token.Change) []token.Change {
	changes := []token.Change{first}
	for len(changes) < maxChanges {
		select {
		case c := <-s.r.queue:
			changes = append(changes, c)
		default:
			return changes
		}
	}
	return changes
}

// send publishes a message, and before it that others were lost, if so.
func (s *sender) send(ctx context.Context, m message) {
	if s.r.lost.Swap(false) && !s.publish(ctx, message{kind: kindLost}) {
		s.r.lost.Store(true)
		return
	}
	if !s.publish(ctx, m) && m.kind == kindChanges {
		s.r.lost.Store(true)
	}
}

// publish reports whether Redis took a message. A message of changes that it did
// not take keeps its number: should it arrive all the same, nothing is amiss.
func (s *sender) publish(ctx context.Context, m message) bool {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if m.kind == kindChanges {
		s.number++
	}
	m.node, m.number = s.r.node, s.number
	if err := s.client.Publish(ctx, s.channel, m.encode()).Err(); err != nil {
		s.r.grumble(&s.said, "announcing changes to other nodes", err)
		s.pause = min(max(2*s.pause, retryMin), retryMax)
		return false
	}
	s.pause, s.said = 0, false
	s.r.published.Store(time.Now().UnixNano())
	return true
}

// leave sends what is still waiting and says goodbye, if Redis is quick.
func (s *sender) leave() {
	if s.pause > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	for {
		select {
		case c := <-s.r.queue:
			if s.send(ctx, message{kind: kindChanges, changes: s.batch(c)}); s.pause > 0 {
				return
			}
			continue
		default:
		}
		if !s.r.lost.Load() {
			s.publish(ctx, message{kind: kindBye})
		}
		return
	}
}

// refusal reports whether Redis answered, and said no.
func refusal(err error) bool {
	refused := redis.Error(nil)
	return errors.As(err, &refused)
}
