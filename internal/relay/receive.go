package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxNodes bounds how many nodes are told apart.
const maxNodes = 1024

var errSilent = errors.New("our own messages do not come back")

// receiver hears other nodes' messages.
type receiver struct {
	r       *Relay
	client  Client
	channel string
	said    bool

	// Of one subscription:
	begun time.Time
	own   time.Time // when we heard ourselves last
	nodes map[string]*peer
}

// peer is another node.
type peer struct {
	number uint64 // of its last message with changes
	heard  time.Time
}

// run subscribes, and subscribes again whenever that ends.
func (v *receiver) run(ctx context.Context) {
	pause := retryMin
	for ctx.Err() == nil {
		begun := time.Now()
		err := v.attend(ctx)
		v.r.heard.Store(false)
		if ctx.Err() != nil {
			return
		}
		v.r.grumble(&v.said, "hearing other nodes' changes", err)
		if time.Since(begun) > retryMax {
			pause = retryMin
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, retryMax)
	}
}

// attend subscribes and passes on what is heard until that fails.
func (v *receiver) attend(ctx context.Context) error {
	sub := v.client.Subscribe(ctx, v.channel)
	defer sub.Close()
	// A read ends with its connection only.
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()

	if _, err := sub.ReceiveTimeout(ctx, silence); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	v.begun = time.Now()
	v.own = v.begun
	v.nodes = make(map[string]*peer)
	v.said = false
	v.r.heard.Store(true)
	v.r.gap() // now that nothing more is missed
	for {
		// Our own heartbeats come more often than that.
		received, err := sub.ReceiveTimeout(ctx, silence)
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		switch received := received.(type) {
		case *redis.Message:
			v.take(received.Payload)
		case *redis.Subscription: // go-redis has connected anew behind our back
			return errors.New("the subscription was renewed")
		}
		if err := v.sweep(); err != nil {
			return err
		}
	}
}

// take passes on one message.
func (v *receiver) take(payload string) {
	m, err := decode(payload)
	if err != nil {
		v.r.cfg.Logger.LogAttrs(context.Background(), slog.LevelWarn, "nothing that is remembered can be relied on", slog.Any("error", err), slog.Int("bytes", len(payload)))
		v.r.gap()
		return
	}
	now := time.Now()
	if m.node == v.r.node {
		v.own = now
		return
	}
	if v.missed(m, now) || m.kind == kindLost {
		v.r.gap()
	}
	if m.kind == kindBye {
		delete(v.nodes, m.node)
	}
	for _, c := range m.changes {
		switch how := v.r.versions.note(c); {
		case how == fresh:
			v.r.cfg.Changed(c)
		case how == late && c.Revoked:
			v.r.gap() // whose requests it should have ended must be asked for
		}
	}
}

// missed notes a node's message and reports whether one before it did not come.
func (v *receiver) missed(m message, now time.Time) bool {
	before := m.number
	if m.kind == kindChanges {
		before--
	}
	p := v.nodes[m.node]
	if p == nil {
		if len(v.nodes) >= maxNodes {
			clear(v.nodes)
		}
		v.nodes[m.node] = &peer{number: m.number, heard: now}
		// Nodes that are there already are heard for the first time soon after the
		// subscription; what they said before that was made up for by its gap.
		return before > 0 && now.Sub(v.begun) > silence
	}
	p.heard = now
	gap := before > p.number
	p.number = max(p.number, m.number)
	return gap
}

// sweep finds nodes that have fallen silent, which may go on making changes on
// the far side of a broken network, and a subscription that has.
func (v *receiver) sweep() error {
	now := time.Now()
	if published := time.Unix(0, v.r.published.Load()); published.Sub(v.own) > silence {
		return errSilent
	}
	for node, p := range v.nodes {
		if now.Sub(p.heard) > silence {
			delete(v.nodes, node)
			v.r.gap()
		}
	}
	return nil
}
