package eventredis

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// peek reports whether there is something in the stream.
func (m *mover) peek(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	n, err := m.s.cfg.Client.XLen(ctx, m.s.cfg.Key).Result()
	return n > 0, m.s.cfg.Explain(err)
}

// read reads and decodes the first entries from a place on, such as "-" or "(" and
// an id, and up to another, such as "+".
func (m *mover) read(ctx context.Context, first, last string) (p page, err error) {
	size := 0
	for {
		entries, err := m.readSome(ctx, first, last)
		if err != nil {
			return page{}, err
		}
		for _, entry := range entries {
			size += p.add(entry)
			first = "(" + entry.ID
		}
		if p.full = len(p.events) >= moveBatch || size >= moveBytes; p.full || len(entries) < movePage {
			p.next = first
			return p, nil
		}
	}
}

func (m *mover) readSome(ctx context.Context, first, last string) ([]redis.XMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	entries, err := m.s.cfg.Client.XRangeN(ctx, m.s.cfg.Key, first, last, movePage).Result()
	if err != nil {
		return nil, m.s.cfg.Explain(err)
	}
	return entries, nil
}

// page is the head of the stream.
type page struct {
	ids     []string // of all entries
	events  []*event.Event
	damaged int64
	why     error
	full    bool   // there may be more
	next    string // from where on
}

func (p page) empty() bool { return len(p.ids) == 0 }

// add adds an entry and returns its size.
func (p *page) add(entry redis.XMessage) int {
	p.ids = append(p.ids, entry.ID)
	text, ok := entry.Values[field].(string)
	if !ok {
		p.damage(entry.ID, errNoField)
	}
	for line := range strings.Lines(text) {
		e, err := event.Decode([]byte(line))
		if err != nil {
			p.damage(entry.ID, err)
			continue
		}
		p.events = append(p.events, e)
	}
	return len(text)
}

var errNoField = fmt.Errorf("it has no field %s", field)

func (p *page) damage(id string, why error) {
	p.damaged++
	p.why = fmt.Errorf("entry %s: %w", id, why)
}
