package eventredis

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

func (p place) String() string { return fmt.Sprintf("%d-%d", p.ms, p.n) }

// FuzzEntry: whatever an entry holds, it is some events and some damage, and the
// events are the same when they are written again.
func FuzzEntry(f *testing.F) {
	e := &event.Event{ID: uuid.Must(uuid.NewV7()), Time: time.Unix(1e9, 0), Status: 200}
	text := string(e.AppendJSON(nil))
	f.Add("1-1", text+"\n"+text+"\n")
	alert := event.NewAlert(time.Unix(1e9, 0), uuid.Nil, e.ID, event.Alert{Scope: event.ScopeToken, Limit: event.LimitBudget, Percent: 80, Amount: 1e10, Used: 8e9})
	f.Add("1-1", text+"\n"+string(alert.AppendJSON(nil))+"\n"+text+"\n")
	f.Add("1-1", text[:len(text)/2])
	f.Add("18446744073709551615-18446744073709551615", "\n{}\n[]")
	f.Add("-", "")
	f.Fuzz(func(t *testing.T, id, text string) {
		if p, ok := parsePlace(id); ok {
			if again, ok := parsePlace(p.String()); !ok || again != p {
				t.Errorf("%s becomes %s", id, again)
			}
		}
		var p page
		if size := p.add(redis.XMessage{ID: id, Values: map[string]any{field: text}}); size != len(text) || len(p.ids) != 1 {
			t.Errorf("%d bytes, %d ids", size, len(p.ids))
		}
		if lines := int64(len(strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n"))); text != "" && int64(len(p.events))+p.damaged != lines {
			t.Errorf("%d events and %d damaged in %d lines", len(p.events), p.damaged, lines)
		}
		if len(p.events) == 0 {
			return
		}
		var buf []byte
		ends, err := appendEntries(&buf, p.events)
		if err != nil {
			t.Fatal(err)
		}
		var again page
		from := 0
		for _, end := range ends {
			again.add(redis.XMessage{ID: id, Values: map[string]any{field: string(buf[from:end])}})
			from = end
		}
		if from != len(buf) || len(again.events) != len(p.events) || again.damaged > 0 {
			t.Fatalf("%d events, %d damaged: %v", len(again.events), again.damaged, again.why)
		}
		for i, e := range again.events {
			if string(e.AppendJSON(nil)) != string(p.events[i].AppendJSON(nil)) {
				t.Errorf("event %d is another one", i)
			}
		}
	})
}

// TestEntries: entries hold all events in their order, and not much more than they
// should, but for an event that is larger.
func TestEntries(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events := make([]*event.Event, rapid.IntRange(1, 12).Draw(t, "events"))
		for i := range events {
			events[i] = &event.Event{
				ID: uuid.Must(uuid.NewV7()), Time: time.Unix(1e9, 0),
				Request: strings.Repeat("x", rapid.SampledFrom([]int{0, 10, 20_000, maxEntry - 100, maxEntry + 1}).Draw(t, "size")),
			}
		}
		buf := []byte("what was there before")
		ends, err := appendEntries(&buf, events)
		if err != nil {
			t.Fatal(err)
		}
		from, n := 0, 0
		for _, end := range ends {
			lines := strings.Count(string(buf[from:end]), "\n")
			if lines == 0 || lines > 1 && end-from > maxEntry {
				t.Errorf("an entry of %d events and %d bytes", lines, end-from)
			}
			from, n = end, n+lines
		}
		want := ""
		for _, e := range events {
			want += string(e.AppendJSON(nil)) + "\n"
		}
		if n != len(events) || string(buf) != want {
			t.Errorf("%d events, want %d", n, len(events))
		}
	})
}

// TestLost: what may be lost is what was taken and not seen to be moved.
func TestLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &Stream{cfg: Config{Logger: slog.New(slog.DiscardHandler)}}
		s.meet("a", false)
		taken := map[place]int64{}
		at := place{1, 0}
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				at = place{at.ms + rapid.Uint64Range(0, 1).Draw(t, "ms"), at.n + 1}
				n := rapid.IntRange(1, 9).Draw(t, "events")
				taken[at] = int64(n)
				s.note(at.String(), n)
			case 2:
				first := place{rapid.Uint64Range(0, at.ms+1).Draw(t, "ms"), rapid.Uint64Range(0, at.n+1).Draw(t, "n")}
				for p := range taken {
					if p.compare(first) < 0 {
						delete(taken, p)
					}
				}
				s.forget(first)
			case 3:
				s.meet(rapid.SampledFrom([]string{s.born, s.born + "x"}).Draw(t, "mark"), true) // the same stream
			}
		}
		want := int64(0)
		for _, n := range taken {
			want += n
		}
		s.meet("another", false)
		if got := s.vanished.Load(); got != want {
			t.Errorf("%d lost, want %d", got, want)
		}
		if s.meet("a third", false); s.vanished.Load() != want {
			t.Error("counted twice")
		}
	})
}

// TestManyBatches: what is remembered is bounded, and nothing is forgotten.
func TestManyBatches(t *testing.T) {
	t.Parallel()
	s := &Stream{cfg: Config{Logger: slog.New(slog.DiscardHandler)}}
	s.meet("a", false)
	for i := range 3 * maxUnmoved {
		s.note(place{uint64(i), 1}.String(), 2)
	}
	s.note("garbage", 5)
	if len(s.unmoved) != maxUnmoved {
		t.Errorf("%d are remembered", len(s.unmoved))
	}
	if s.meet("b", false); s.vanished.Load() != 6*maxUnmoved {
		t.Errorf("%d lost", s.vanished.Load())
	}
}
