package simulator_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// timeline notes when each frame was flushed.
type timeline struct {
	*httptest.ResponseRecorder
	began   time.Time
	flushed []time.Duration
}

func (tl *timeline) Flush() {
	tl.flushed = append(tl.flushed, time.Since(tl.began))
	tl.ResponseRecorder.Flush()
}

// play runs one chat request against the handler itself, so that a bubble's
// clock decides; it reports whether the connection was cut.
func play(ctx context.Context, sim *simulator.Server, model string, stream bool) (tl *timeline, cut bool) {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/chat/completions",
		strings.NewReader(generations[0].body(model, stream)))
	r.Header.Set("Authorization", "Bearer "+testKey)
	tl = &timeline{ResponseRecorder: httptest.NewRecorder(), began: time.Now()}
	defer func() {
		if e := recover(); e != nil {
			cut = e == http.ErrAbortHandler
		}
	}()
	sim.ServeHTTP(tl, r)
	return tl, false
}

func TestDelays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, model string
		opt         simulator.Options
		stream      bool
		want        time.Duration
	}{
		{"default pace", "m", simulator.Options{}, true, 23 * 20 * time.Millisecond},
		{"no pause when whole", "m", simulator.Options{}, false, 0},
		{"pace option", "m", simulator.Options{Pace: time.Second, Chunks: 5}, true, 4 * time.Second},
		{"no pace", "m", simulator.Options{Pace: -1}, true, 0},
		{"first byte option", "m", simulator.Options{FirstByte: 3 * time.Second}, false, 3 * time.Second},
		{"sim-slow", "sim-slow", simulator.Options{Pace: -1}, true, 2 * time.Second},
		{"sim-slow with duration", "sim-slow-150ms", simulator.Options{}, false, 150 * time.Millisecond},
		{"sim-pace", "sim-pace-1s", simulator.Options{Chunks: 3}, true, 2 * time.Second},
		{"sim-silent", "sim-silent-5m", simulator.Options{Pace: -1}, true, 5 * time.Minute},
		{"sim-silent whole", "sim-silent-5m", simulator.Options{}, false, 5 * time.Minute},
		{"joined", "sim-slow-1s+pace-1s+chunks-3", simulator.Options{}, true, 3 * time.Second},
		{"slow error", "sim-slow-1s+error-500", simulator.Options{}, false, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tl, _ := play(t.Context(), simulator.New(tt.opt), tt.model, tt.stream)
				if got := time.Since(tl.began); got != tt.want {
					t.Errorf("took %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestEveryChunkIsFlushedWhenMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tl, _ := play(t.Context(), simulator.New(simulator.Options{Pace: time.Second, Chunks: 3}), "m", true)
		var last time.Duration
		steps := 0
		for _, at := range tl.flushed {
			if at > last {
				last, steps = at, steps+1
			}
		}
		// Role, three words, finish reason, usage, end mark.
		if len(tl.flushed) != 7 || steps != 2 || last != 2*time.Second {
			t.Errorf("flushed at %v", tl.flushed)
		}
	})
}

func TestCancelledStream(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"m", "sim-silent-1h"} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
				defer cancel()
				sim := simulator.New(simulator.Options{Pace: time.Second, Chunks: 6})
				_, cut := play(ctx, sim, model, true)
				got := sim.Stats()
				if !cut || got.Streams != 1 || got.OpenStreams != 0 || got.CancelledStreams != 1 || got.CancelledRequests != 0 {
					t.Errorf("cut %v, %+v", cut, got)
				}
				if got.CompletionTokens != 3 {
					t.Errorf("%d tokens emitted, want 3", got.CompletionTokens)
				}
			})
		})
	}
}

func TestCancelledBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"sim-slow", "sim-hang"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			sim := simulator.New(simulator.Options{})
			_, cut := play(ctx, sim, model, true)
			if got := sim.Stats(); !cut || got.CancelledRequests != 1 || got.Streams != 0 {
				t.Errorf("%s: cut %v, %+v", model, cut, got)
			}
		})
	}
}
