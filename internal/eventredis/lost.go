package eventredis

import (
	"cmp"
	"log/slog"
	"strconv"
	"strings"
)

// maxUnmoved is how many batches are told apart; above, they become one.
const maxUnmoved = 4096

// batch is some events that Redis took.
type batch struct {
	last   place
	events int64
}

// place is an entry's id: its time in milliseconds and its number in it.
type place struct{ ms, n uint64 }

func parsePlace(id string) (p place, ok bool) {
	ms, n, ok := strings.Cut(id, "-")
	if !ok {
		return p, false
	}
	var errMS, errN error
	p.ms, errMS = strconv.ParseUint(ms, 10, 64)
	p.n, errN = strconv.ParseUint(n, 10, 64)
	return p, errMS == nil && errN == nil
}

func (p place) compare(q place) int { return cmp.Or(cmp.Compare(p.ms, q.ms), cmp.Compare(p.n, q.n)) }

// note remembers what Redis took, to be able to tell what is lost if it loses it.
func (s *Stream) note(id string, events int) {
	p, ok := parsePlace(id)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.unmoved); n >= maxUnmoved {
		s.unmoved[n-1] = batch{p, s.unmoved[n-1].events + int64(events)}
		return
	}
	s.unmoved = append(s.unmoved, batch{p, int64(events)})
}

// lastTaken is the last place that Redis gave to an event of ours, in the stream
// that we know.
func (s *Stream) lastTaken() (last place, born string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.unmoved); n > 0 {
		last = s.unmoved[n-1].last
	}
	return last, s.born
}

// forget forgets batches that are not in the stream any more, as they were moved:
// all before its first entry.
func (s *Stream) forget(first place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.unmoved) && s.unmoved[n].last.compare(first) < 0 {
		n++
	}
	s.unmoved = append(s.unmoved[:0], s.unmoved[n:]...)
}

// meet takes note of the stream that there is. If it is another one than before,
// what was in that is gone.
func (s *Stream) meet(born string, same bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.born
	s.born = born
	if before == born || before == "" || same {
		return
	}
	lost := int64(0)
	for _, b := range s.unmoved {
		lost += b.events
	}
	s.unmoved = s.unmoved[:0]
	s.vanished.Add(lost)
	if lost > 0 {
		s.cfg.Logger.Error("Redis has lost its stream of events: those that were not in the database yet are gone", slog.Int64("lost_at_most", lost))
		return
	}
	s.cfg.Logger.Warn("Redis has lost its stream of events; nothing of this node was in it")
}
