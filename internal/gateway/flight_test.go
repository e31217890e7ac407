package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func newFlight(tokenID, projectID uuid.UUID) (*flight, context.Context) {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &flight{tokenID: tokenID, projectID: projectID, cancel: cancel, writer: httptest.NewRecorder()}, ctx
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV4()) }

func TestCutByTokenAndProject(t *testing.T) {
	project, other := newID(), newID()
	one, two := newID(), newID()
	for name, tc := range map[string]struct {
		change token.Change
		cut    map[string]error
	}{
		"a token":                      {token.Change{Kind: token.TokenChanged, ID: one, Revoked: true}, map[string]error{"1a": errTokenInactive, "1b": errTokenInactive}},
		"a project":                    {token.Change{Kind: token.ProjectChanged, ID: project, Revoked: true}, map[string]error{"1a": errProjectInactive, "1b": errProjectInactive, "2": errProjectInactive}},
		"all its tokens":               {token.Change{Kind: token.ProjectTokensRevoked, ID: project, Revoked: true}, map[string]error{"1a": errTokenInactive, "1b": errTokenInactive, "2": errTokenInactive}},
		"not a revocation":             {token.Change{Kind: token.TokenChanged, ID: one}, nil},
		"a project's id is no token's": {token.Change{Kind: token.TokenChanged, ID: project, Revoked: true}, nil},
		"a token's id is no project's": {token.Change{Kind: token.ProjectChanged, ID: one, Revoked: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := NewInflight()
			defer f.Close()
			contexts := make(map[string]context.Context)
			for name, ids := range map[string][2]uuid.UUID{"1a": {one, project}, "1b": {one, project}, "2": {two, project}, "3": {newID(), other}} {
				fl, ctx := newFlight(ids[0], ids[1])
				f.add(fl)
				defer f.remove(fl)
				contexts[name] = ctx
			}
			f.Changed(tc.change)
			f.Changed(tc.change)
			for name, ctx := range contexts {
				if got := context.Cause(ctx); !errors.Is(got, tc.cut[name]) {
					t.Errorf("%s ended with %v, want %v", name, got, tc.cut[name])
				}
			}
		})
	}
}

func TestRegistryForgets(t *testing.T) {
	f := NewInflight()
	defer f.Close()
	var flights []*flight
	for range 100 {
		fl, _ := newFlight(newID(), newID())
		f.add(fl)
		flights = append(flights, fl)
	}
	if f.Count() != 100 {
		t.Errorf("%d requests are registered", f.Count())
	}
	for _, fl := range flights { // in another order than they came, by shards
		f.remove(fl)
	}
	for i := range f.shards {
		if root := &f.shards[i].root; root.next != root || root.prev != root {
			t.Errorf("shard %d is not empty", i)
		}
	}
	if f.Count() != 0 {
		t.Errorf("%d requests are registered", f.Count())
	}
}

// deadlines counts how often its deadlines were set to the past.
type deadlines struct {
	http.ResponseWriter
	read, write atomic.Int64
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	if at.Before(time.Now()) {
		d.read.Add(1)
	}
	return nil
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	if at.Before(time.Now()) {
		d.write.Add(1)
	}
	return nil
}

// wrapper is a writer of the host's, which must not be touched while another
// goroutine may write.
type wrapper struct {
	http.ResponseWriter
	inner http.ResponseWriter
}

func (w wrapper) Unwrap() http.ResponseWriter      { return w.inner }
func (w wrapper) SetWriteDeadline(time.Time) error { panic("the wrapper was touched") }

// A request that ends by itself soon after its cut keeps its connection; one
// that does not is unblocked, again and again.
func TestUnblockAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewInflight()
		defer f.Close()
		fl, ctx := newFlight(newID(), newID())
		d := &deadlines{ResponseWriter: httptest.NewRecorder()}
		fl.writer = wrapper{httptest.NewRecorder(), d}
		f.add(fl)
		<-time.After(time.Minute)
		f.Changed(token.Change{Kind: token.TokenChanged, ID: fl.tokenID, Revoked: true})
		if ctx.Err() == nil || d.write.Load() != 0 {
			t.Errorf("context %v, %d deadlines", ctx.Err(), d.write.Load())
		}
		<-time.After(tickEvery + tickEvery/2)
		if d.write.Load() != 0 {
			t.Error("unblocked at once")
		}
		<-time.After(unblockAfter * tickEvery)
		if d.write.Load() != 1 || d.read.Load() != 1 {
			t.Errorf("%d write and %d read deadlines, want one each", d.write.Load(), d.read.Load())
		}
		<-time.After(unblockAfter * tickEvery)
		if d.write.Load() != 2 {
			t.Errorf("%d write deadlines, want another", d.write.Load())
		}
		f.remove(fl)
		<-time.After(time.Minute)
		if d.write.Load() != 2 {
			t.Error("touched after its end")
		}
	})
}

func TestUploadClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewInflight()
		defer f.Close()
		fl, ctx := newFlight(newID(), newID())
		f.add(fl)
		defer f.remove(fl)
		fl.limit.Store(sending)
		<-time.After(10 * time.Minute)
		fl.arrived() // answered before all was sent
		f.awaitSent(fl, time.Second)
		<-time.After(10 * time.Minute)
		if ctx.Err() != nil {
			t.Fatal("cut while nobody waited for the provider")
		}
		fl.limit.Store(sending)
		f.awaitSent(fl, time.Second)
		<-time.After(time.Second + 3*tickEvery)
		if !errors.Is(context.Cause(ctx), errUpstreamTimeout) {
			t.Errorf("ended with %v", context.Cause(ctx))
		}
	})
}

// Close ends the watch, with requests still registered too.
func TestCloseLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		f := NewInflight()
		fl, _ := newFlight(newID(), newID())
		f.add(fl)
		f.Close()
		f.remove(fl)
	})
}

// Requests come, go, and are cut, all at once (run with -race).
func TestRegistryStress(t *testing.T) {
	f := NewInflight()
	defer f.Close()
	ids := [4]uuid.UUID{newID(), newID(), newID(), newID()}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := range 500 {
				fl, ctx := newFlight(ids[(worker+n)%4], ids[n%2])
				fl.writer = &deadlines{}
				fl.expires = time.Now().Add(time.Duration(n%3) * time.Millisecond)
				f.add(fl)
				f.await(fl, time.Duration(n%5)*time.Millisecond)
				if n%7 == 0 {
					runtime.Gosched()
				}
				fl.arrived()
				f.remove(fl)
				fl.cancel(nil)
				<-ctx.Done()
			}
		})
	}
	wg.Go(func() {
		for n := range 500 {
			f.Changed(token.Change{Kind: token.ChangeKind(1 + n%3), ID: ids[n%4], Revoked: true})
		}
	})
	wg.Wait()
	if f.Count() != 0 {
		t.Errorf("%d requests are registered", f.Count())
	}
}
