package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// inflight is how many requests the process is serving.
func (p *proxy) inflight(t *testing.T) int {
	t.Helper()
	return int(parseMetrics(t, p.admin("/metrics")).sum("llm_proxy_inflight_requests"))
}

// prefix reads a stream up to the end of its first event.
func prefix(t *testing.T, body io.Reader) string {
	t.Helper()
	var got bytes.Buffer
	for one := make([]byte, 1); !strings.HasSuffix(got.String(), "\n\n"); {
		if _, err := io.ReadFull(body, one); err != nil {
			t.Errorf("%v after %q", err, got.String())
			break
		}
		got.Write(one)
	}
	return got.String()
}

// TestCacheLateJoiners: who comes while a stream is under way gets all of it, in
// order and once, also when the one that it was made for has left.
func TestCacheLateJoiners(t *testing.T) {
	t.Parallel()
	const joiners, model = 20, "sim-chunks-40"
	sim := newProvider(t, simulator.Options{})
	p := start(t, priced(t, cachedSite(sim)))
	for _, leaves := range []bool{false, true} {
		for _, d := range allDialects {
			name := fmt.Sprintf("%s, leader leaves: %t", d, leaves)
			a := p.account(t)
			first := &account{p: p}
			first.tokenID, first.token = a.mint(t)
			before := sim.count()
			release := sim.hold(t, a.key)
			ctx, leave := context.WithCancel(bounded(t))
			defer leave()
			leader := p.open(t, ctx, optIn(d.ask(string(d), first.token, model, true)))
			head := prefix(t, leader.Body)
			var joined, all sync.WaitGroup
			bodies := make([]string, joiners)
			joined.Add(joiners)
			for i := range joiners {
				all.Go(func() {
					has := sync.OnceFunc(joined.Done)
					defer has()
					r := optIn(d.ask(string(d), a.token, model, true))
					r.proto = allProtocols[i%len(allProtocols)]
					resp := p.open(t, bounded(t), r)
					if got := resp.Header.Get("Cache-Status"); !strings.HasSuffix(got, "collapsed") {
						t.Errorf("%s: Cache-Status %q", name, got)
					}
					got := prefix(t, resp.Body)
					has()
					rest, err := io.ReadAll(resp.Body)
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					bodies[i] = got + string(rest)
				})
			}
			joined.Wait() // all have what has come, and the rest has not
			rest := ""
			if leaves {
				leave()
				eventually(t, "the leader has left", func() bool { return p.inflight(t) == joiners })
				release()
			} else {
				release()
				text, err := io.ReadAll(leader.Body)
				if err != nil {
					t.Errorf("%s: the leader: %v", name, err)
				}
				rest = string(text)
			}
			all.Wait()
			hit := p.do(t, optIn(d.ask(string(d), a.token, model, true)))
			if !isHit(hit) {
				t.Errorf("%s: then %v", name, hit.header)
			}
			if !leaves && head+rest != hit.body {
				t.Errorf("%s: the leader got %q, stored is %q", name, head+rest, hit.body)
			}
			for i, body := range bodies {
				if body != hit.body {
					t.Errorf("%s: joiner %d got %q, stored is %q", name, i, body, hit.body)
				}
			}
			if n := sim.count() - before; n != 1 {
				t.Errorf("%s: the provider was asked %d times", name, n)
			}
			reference := p.do(t, d.ask(string(d), a.token, model, true)) // past the cache
			if got, want := strings.Count(hit.body, "data: "), strings.Count(reference.body, "data: "); got != want || want < 40 {
				t.Errorf("%s: %d events, want %d", name, got, want)
			}

			led := p.cacheEvents(t, first.tokenID, 1)[0]
			in, out := led.tokens()
			outcome := map[bool]string{false: "ok", true: "client_cancelled"}[leaves]
			if led.Cache != "miss" || led.Outcome != outcome || out != 40 || led.Estimated || led.CostNanoUSD == nil || *led.CostNanoUSD != costOf(in, out) {
				t.Errorf("%s: the leader's event: %+v, cost %v", name, led, led.CostNanoUSD)
			}
			counts := map[string]int{}
			for _, ev := range p.cacheEvents(t, a.tokenID, joiners+2) {
				counts[ev.Cache]++
				in, out := ev.tokens()
				if ev.Outcome != "ok" || ev.Cache != "bypass" && (ev.CostNanoUSD == nil || *ev.CostNanoUSD != 0 || in+out != 0) {
					t.Errorf("%s: %+v", name, ev)
				}
			}
			if counts["coalesced"] != joiners || counts["hit"] != 1 || counts["bypass"] != 1 {
				t.Errorf("%s: %v", name, counts)
			}
		}
	}
}

// TestCacheUnfinished: an answer that does not say that it is complete, or says that
// it is none, is not stored.
func TestCacheUnfinished(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, cachedSite(sim, "mode always"))
	a := p.account(t)
	for _, d := range allDialects {
		for _, stream := range []bool{true, false} {
			whole := d.ask(string(d), a.token, "m", stream)
			if first, second := p.do(t, whole), p.do(t, whole); first.status != http.StatusOK || isHit(first) || !isHit(second) {
				t.Errorf("%s stream %t: what is complete is not stored: %v, then %v", d, stream, first.header, second.header)
			}
			for _, model := range []string{"sim-truncate", "sim-error-midstream", "sim-abort", "sim-abort-headers", "sim-cookie", "sim-error-500", "sim-error-429", "sim-error-400"} {
				if model == "sim-truncate" && !stream {
					continue // an order for streams
				}
				for n := range 3 {
					before := sim.count()
					got, err := p.try(t, d.ask(string(d), a.token, model, stream))
					if sim.count() == before || isHit(got) || strings.Contains(cacheStatus(got), "stored") && got.err == nil && model != "sim-truncate" && model != "sim-error-midstream" {
						t.Errorf("%s %s stream %t, request %d: %d %v %v, %v", d, model, stream, n, got.status, got.header, got.err, err)
					}
				}
			}
		}
	}
}

// TestCacheUsageFrame: who asks for a stream's usage gets it, who does not does not,
// and neither gets the other's answer.
func TestCacheUsageFrame(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, cachedSite(sim))
	a := p.account(t)
	const wanted = `{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hello"}]}`
	for range 3 {
		for _, body := range []string{chatBody("gpt-4o", true), wanted} {
			got := p.do(t, optIn(request{path: "/v1/chat/completions", token: a.token, body: body}))
			if has := strings.Contains(got.body, `"total_tokens"`); has != (body == wanted) || got.err != nil || lastEvent(got.body) != "[DONE]" {
				t.Errorf("usage in the answer to %s: %t, %v\n%s", body, has, got.err, got.body)
			}
		}
	}
	if n := sim.count(); n != 2 {
		t.Errorf("the provider was asked %d times", n)
	}
}

// TestCacheReplay: a stored stream comes at once, or as it came, byte for byte the same.
func TestCacheReplay(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.routes = "llm_proxy_admin\n@paced header X-Pace original\nroute {\n" +
		"llm_proxy @paced {\ncache {\nreplay original\n}\n}\nllm_proxy {\ncache\n}\n}"
	p := start(t, s)
	a := p.account(t)
	ask := optIn(chat(a.token, "sim-silent-2s", true))
	live := p.do(t, ask)
	if live.err != nil || lastEvent(live.body) != "[DONE]" || isHit(live) {
		t.Fatalf("%v %q %v", live.header, live.body, live.err)
	}
	began := time.Now()
	resp := p.open(t, bounded(t), with(ask, "X-Pace: original"))
	if !strings.HasPrefix(resp.Header.Get("Cache-Status"), "llm-proxy; hit") || resp.ContentLength != -1 {
		t.Errorf("%v, length %d", resp.Header, resp.ContentLength)
	}
	paced, err := io.ReadAll(resp.Body)
	if took := time.Since(began); err != nil || string(paced) != live.body || took < time.Second {
		t.Errorf("paced: %q after %s, %v, want %q after the silence", paced, took, err, live.body)
	}
	// What comes at once has a length.
	instant := p.do(t, ask)
	if !isHit(instant) || instant.body != live.body || instant.header.Get("Content-Length") != fmt.Sprint(len(live.body)) {
		t.Errorf("instant: %v %q, want %q", instant.header, instant.body, live.body)
	}
	// Who leaves a paced replay takes nobody with them.
	ctx, leave := context.WithCancel(bounded(t))
	gone := p.open(t, ctx, with(ask, "X-Pace: original"))
	prefix(t, gone.Body)
	leave()
	eventually(t, "it is over", func() bool { return p.inflight(t) == 0 })
	if again := p.do(t, ask); !isHit(again) || again.body != live.body || again.status != http.StatusOK {
		t.Errorf("%v %q", again.header, again.body)
	}
}
