package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// cancelAfter is a client that leaves after d.
func cancelAfter(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(d, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}

// waiting streams begin, and then nothing comes.
var waiting = streams(eventStream, nil, at("data: a\n\n"), never)

// flying is a request under way.
type flying struct {
	page    *page
	rec     gateway.Record
	aborted bool
	done    chan struct{}
}

// fly serves a request in the background, for a client as shape leaves it.
func (r *rig) fly(req *http.Request, shape ...func(*page)) *flying {
	f := &flying{page: newPage(), done: make(chan struct{})}
	for _, s := range shape {
		s(f.page)
	}
	go func() {
		defer close(f.done)
		f.aborted = r.serve(f.page, req, &f.rec)
	}()
	return f
}

func TestRevocationCutsStreams(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(r *rig) token.Change
		code   string
	}{
		"token":      {func(r *rig) token.Change { return r.store.revoke(r.tokenID) }, apierr.TokenInactive},
		"project":    {func(r *rig) token.Change { return r.store.deactivate(r.projectID) }, apierr.ProjectInactive},
		"all tokens": {func(r *rig) token.Change { return r.store.revokeAll(r.projectID) }, apierr.TokenInactive},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, setup{upstream: waiting})
				mine := r.fly(r.chat(`{"model":"m"}`))
				otherText, _ := r.store.addToken(t, r.store.addProject(nil), nil)
				ctx, leave := cancelAfter(t, 4*time.Minute)
				defer leave()
				other := r.fly(r.chat(`{"model":"m"}`, "X-Api-Key:", "X-Api-Key: "+otherText).WithContext(ctx))
				synctest.Wait()
				if n := r.inflight.Count(); n != 2 {
					t.Fatalf("%d requests are registered, want 2", n)
				}
				start := time.Now()
				r.announce(tc.change(r))
				<-mine.done
				if took := time.Since(start); took > time.Second {
					t.Errorf("cut after %v", took)
				}
				rest, _ := strings.CutPrefix(mine.page.text(), "data: a\n\n")
				if !mine.aborted || !strings.HasPrefix(rest, "data: {") || !strings.Contains(rest, tc.code) {
					t.Errorf("aborted %t, ends with %q", mine.aborted, rest)
				}
				if mine.rec.Outcome != gateway.OutcomeCut || mine.rec.Code != tc.code || mine.rec.Status != 200 {
					t.Errorf("record %+v", mine.rec)
				}
				<-other.done
				if other.rec.Outcome != gateway.OutcomeClientCancelled || time.Since(start) < 3*time.Minute {
					t.Errorf("another project's request ended after %v: %+v", time.Since(start), other.rec)
				}
				if n := r.inflight.Count(); n != 0 {
					t.Errorf("%d requests are still registered", n)
				}
			})
		})
	}
}

// Changes that revoke nothing end nothing.
func TestOtherChangesCutNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, setup{upstream: streams(eventStream, nil, at("data: a\n\n"), piece{time.Minute, "data: b\n\n"})})
		f := r.fly(r.chat(`{"model":"m"}`))
		synctest.Wait()
		r.announce(r.store.changeToken(r.tokenID, func(tok *token.Token) { tok.Name = "x" }))
		r.announce(r.store.changeProject(r.projectID, func(p *project.Snapshot) { p.Name = "x" }))
		<-f.done
		if f.aborted || f.page.text() != "data: a\n\ndata: b\n\n" {
			t.Errorf("aborted %t, %q", f.aborted, f.page.text())
		}
	})
}

// Before its answer begins, a cut request gets an error like any other.
func TestRevocationBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, setup{upstream: roundTripper(hang)})
		f := r.fly(r.chat(`{"model":"m"}`))
		synctest.Wait()
		r.announce(r.store.revoke(r.tokenID))
		<-f.done
		if f.aborted || f.page.status != 401 || f.rec.Outcome != gateway.OutcomeCut || f.rec.Code != apierr.TokenInactive {
			t.Errorf("aborted %t, %d %q, %+v", f.aborted, f.page.status, f.page.text(), f.rec)
		}
	})
}

func TestExpiryCutsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := newRig(t, setup{upstream: waiting, token: func(tok *token.Token) {
			at := start.Add(90 * time.Second)
			tok.ExpiresAt = &at
		}})
		a := r.do(r.chat(`{"model":"m"}`))
		wantWithin(t, start, 90*time.Second)
		if !a.aborted || a.rec.Outcome != gateway.OutcomeCut || a.rec.Code != apierr.TokenExpired || !strings.Contains(a.Body.String(), apierr.TokenExpired) {
			t.Errorf("aborted %t, %q, %+v", a.aborted, a.Body, a.rec)
		}
	})
}

// A client that does not read must not keep a revoked token's request alive.
func TestCutReachesAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, setup{upstream: waiting})
		f := r.fly(r.chat(`{"model":"m"}`), func(p *page) { p.stalled = true })
		synctest.Wait()
		start := time.Now()
		r.announce(r.store.revoke(r.tokenID))
		<-f.done
		if took := time.Since(start); took > time.Second {
			t.Errorf("cut after %v", took)
		}
		if !f.aborted || f.rec.Outcome != gateway.OutcomeCut || f.rec.Code != apierr.TokenInactive || !f.page.readEnd {
			t.Errorf("aborted %t, record %+v", f.aborted, f.rec)
		}
	})
}

// stuckBody is a client's body that does not come, until the read deadline.
type stuckBody struct{ page *page }

func (b stuckBody) Read([]byte) (int, error) { <-b.page.expired; return 0, os.ErrDeadlineExceeded }
func (b stuckBody) Close() error             { return nil }

func TestCutReachesAClientThatDoesNotWrite(t *testing.T) {
	for _, path := range []string{chatPath, uploadPath} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, setup{})
			p, rec := newPage(), new(gateway.Record)
			req := r.request(http.MethodPost, path, "")
			req.Body, req.ContentLength = stuckBody{p}, 100
			timer := time.AfterFunc(time.Minute, func() { r.announce(r.store.revoke(r.tokenID)) })
			defer timer.Stop()
			start := time.Now()
			r.serve(p, req, rec)
			if took := time.Since(start); took > time.Minute+time.Second {
				t.Errorf("%s: cut after %v", path, took)
			}
			if rec.Outcome != gateway.OutcomeCut || rec.Code != apierr.TokenInactive {
				t.Errorf("%s: record %+v", path, rec)
			}
		})
	}
}

// hookedContext runs a hook when somebody first asks for its end, which a
// request does between its recognition and its registration.
type hookedContext struct {
	context.Context
	once *sync.Once
	hook func()
}

func (c hookedContext) Done() <-chan struct{} {
	c.once.Do(c.hook)
	return c.Context.Done()
}

// What is revoked after a request was recognised, and before it can be found,
// must not be served.
func TestRevocationBetweenRecognitionAndRegistration(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(r *rig) token.Change
		status int
		code   string
	}{
		"token":      {func(r *rig) token.Change { return r.store.revoke(r.tokenID) }, 401, apierr.TokenInactive},
		"project":    {func(r *rig) token.Change { return r.store.deactivate(r.projectID) }, 403, apierr.ProjectInactive},
		"all tokens": {func(r *rig) token.Change { return r.store.revokeAll(r.projectID) }, 401, apierr.TokenInactive},
		"another": {func(r *rig) token.Change {
			_, id := r.store.addToken(r.t, r.projectID, nil)
			return r.store.revoke(id)
		}, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{})
			if _, err := r.authority.Authenticate(t.Context(), r.token); err != nil { // from now on from memory
				t.Fatal(err)
			}
			var hooked bool
			req := r.chat(`{"model":"m"}`)
			req = req.WithContext(hookedContext{req.Context(), new(sync.Once), func() { hooked = true; r.announce(tc.change(r)) }})
			a := r.do(req)
			switch {
			case !hooked:
				t.Fatal("the hook did not run")
			case tc.status == 200:
				r.wantOK(a, "{}")
			default:
				r.wantRefused(a, tc.status, tc.code)
			}
		})
	}
}

// Right after its registration a request is found, and reaches no provider.
func TestRevocationAfterRegistration(t *testing.T) {
	var r *rig
	r = newRig(t, setup{
		token: func(tok *token.Token) { tok.Policy.AllowedIPs = []string{"10.0.0.0/8"} },
		gateway: func(c *gateway.Config) {
			c.ClientIP = func(*http.Request) netip.Addr {
				r.announce(r.store.revoke(r.tokenID))
				return netip.MustParseAddr("10.0.0.1")
			}
		},
	})
	a := r.do(r.chat(`{"model":"m"}`))
	r.wantError(a, http.StatusUnauthorized, apierr.TokenInactive)
	if a.rec.Outcome != gateway.OutcomeCut || len(r.upstream.requests()) != 0 {
		t.Errorf("record %+v", a.rec)
	}
}

// With requests coming and going, none outlives a revocation.
func TestNoRequestOutlivesARevocation(t *testing.T) {
	for round := range 30 {
		r := newRig(t, setup{upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
			_, _ = io.Copy(io.Discard, req.Body)
			return hang(req)
		})})
		var revoked bool
		var mu sync.RWMutex // orders the revocation against what began after it
		var wg sync.WaitGroup
		begun := make(chan struct{}, 64)
		for range 8 {
			wg.Go(func() {
				for range 4 {
					mu.RLock()
					late := revoked
					mu.RUnlock()
					begun <- struct{}{}
					p, rec := newPage(), new(gateway.Record)
					r.serve(p, r.chat(`{"model":"m"}`), rec)
					if p.status != 401 || rec.Code != apierr.TokenInactive {
						t.Errorf("round %d: %d %+v", round, p.status, rec)
					}
					if late && rec.Attempts > 0 {
						t.Errorf("round %d: a provider was asked after the revocation", round)
					}
				}
			})
		}
		for range 1 + round%8 {
			<-begun
		}
		r.announce(r.store.revoke(r.tokenID))
		mu.Lock()
		revoked = true
		mu.Unlock()
		wg.Wait() // a request that survived would wait for ever
		if n := r.inflight.Count(); n != 0 {
			t.Fatalf("%d requests are still registered", n)
		}
	}
}
