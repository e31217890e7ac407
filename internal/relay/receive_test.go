package relay

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// subscribed is a receiver that has just subscribed.
func subscribed() *receiver {
	r := New(Config{Changed: func(token.Change) {}, Gap: func() {}})
	now := time.Now()
	r.published.Store(now.UnixNano())
	return &receiver{r: r, begun: now, own: now, nodes: make(map[string]*peer)}
}

// gapped reports whether a gap was asked for since the last call.
func (v *receiver) gapped() bool {
	select {
	case <-v.r.gaps:
		return true
	default:
		return false
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		says   []string // of a node, before it is silent
		gap    bool     // from its silence
		after  string   // what it says then
		gapNow bool     // from that
	}{
		"alive":                  {[]string{"3 alive"}, true, "3 alive", true},
		"alive, nothing said":    {[]string{"0 alive"}, true, "0 alive", false},
		"left":                   {[]string{"3 alive", "3 bye"}, false, "", false},
		"new, nothing said":      {nil, false, "0 alive", false},
		"new, its first message": {nil, false, "1 changes\n1 " + id1 + " 1 true", false},
		"new, its second":        {nil, false, "2 changes\n1 " + id1 + " 1 true", true},
		"new, and has said":      {nil, false, "1 alive", true},
		"new, and has lost":      {nil, false, "0 lost", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := subscribed()
				for _, words := range tc.says {
					v.take("llm-proxy/1 other " + words)
				}
				if v.gapped() {
					t.Error("a gap at the beginning")
				}
				for range 4 { // our own heartbeats
					time.Sleep(beatEvery)
					v.r.published.Store(time.Now().UnixNano())
					v.take(message{node: v.r.node, kind: kindAlive}.encode())
					if err := v.sweep(); err != nil {
						t.Error(err)
					}
				}
				if got := v.gapped(); got != tc.gap {
					t.Errorf("silence is a gap: %v", got)
				}
				if tc.after == "" {
					return
				}
				if v.take("llm-proxy/1 other " + tc.after); v.gapped() != tc.gapNow {
					t.Errorf("%s is a gap: %v", tc.after, !tc.gapNow)
				}
			})
		})
	}
}

// TestOwnSilence: Redis takes our messages and they do not come back.
func TestOwnSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := subscribed()
		time.Sleep(2 * silence)
		if err := v.sweep(); err != nil {
			t.Errorf("%v while Redis takes no messages", err)
		}
		v.r.published.Store(time.Now().UnixNano())
		if err := v.sweep(); !errors.Is(err, errSilent) {
			t.Errorf("%v while it does", err)
		}
	})
}

func TestManyNodes(t *testing.T) {
	t.Parallel()
	v := subscribed()
	for i := range 3 * maxNodes {
		v.take(fmt.Sprintf("llm-proxy/1 n%d 0 alive", i))
	}
	if len(v.nodes) > maxNodes {
		t.Errorf("%d nodes are remembered", len(v.nodes))
	}
}
