package gateway_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// tolerance is by how much a limit may be exceeded: the registry looks at its
// clock ten times a second.
const tolerance = 250 * time.Millisecond

func times(header, idle time.Duration) func(*provider.Config) {
	return func(c *provider.Config) { c.ResponseHeaderTimeout, c.IdleTimeout = header, idle }
}

// wantWithin checks a time on the bubble's clock.
func wantWithin(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got < want || got > want+tolerance {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestHeaderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, setup{provider: times(3*time.Second, 0), upstream: roundTripper(hang)})
		start := time.Now()
		a := r.do(r.chat(`{"model":"m"}`))
		wantWithin(t, start, 3*time.Second)
		r.wantError(a, http.StatusGatewayTimeout, apierr.UpstreamTimeout)
		if a.rec.Outcome != gateway.OutcomeUpstreamError || a.aborted {
			t.Errorf("record %+v", a.rec)
		}
	})
}

// By default an answer may take as long as its model thinks.
func TestNoHeaderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, setup{upstream: roundTripper(func(*http.Request) (*http.Response, error) {
			<-time.After(20 * time.Minute)
			return reply(http.StatusOK, "application/json", "{}"), nil
		})})
		r.wantOK(r.do(r.chat(`{"model":"m"}`)), "{}")
	})
}

func TestIdleTimeout(t *testing.T) {
	const silence = 10 * time.Second
	pause := func(text string) piece { return piece{silence - time.Second, text} }
	for name, tc := range map[string]struct {
		idle   time.Duration
		lag    time.Duration
		kind   string
		pieces []piece
		want   string
		took   time.Duration // -1: it completes
	}{
		"pauses are allowed":           {silence, 0, eventStream, []piece{pause("data: a\n\n"), pause("data: b\n\n"), pause("data: c\n\n")}, "data: a\n\ndata: b\n\ndata: c\n\n", -1},
		"silence at once":              {silence, 0, eventStream, []piece{never}, "", silence},
		"silence later":                {silence, 0, eventStream, []piece{pause("data: a\n\n"), never}, "data: a\n\n", 2*silence - time.Second},
		"silence, JSON":                {silence, 0, "application/json", []piece{at("[1,"), never}, "[1,", silence},
		"no limit":                     {-1, 0, eventStream, []piece{{20 * time.Minute, "data: a\n\n"}}, "data: a\n\n", -1},
		"default limit":                {0, 0, eventStream, []piece{at("data: a\n\n"), never}, "data: a\n\n", provider.DefaultIdleTimeout},
		"a slow client is not silence": {silence, 3 * silence, eventStream, []piece{at("data: a\n\n"), at("data: b\n\n"), pause("data: c\n\n")}, "data: a\n\ndata: b\n\ndata: c\n\n", -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, setup{provider: times(0, tc.idle), upstream: streams(tc.kind, nil, tc.pieces...)})
				p, rec := newPage(), new(gateway.Record)
				p.lagging = tc.lag
				start := time.Now()
				aborted := r.serve(p, r.chat(`{"model":"m"}`), rec)
				if tc.took < 0 {
					if aborted || p.text() != tc.want || rec.Outcome != gateway.OutcomeOK {
						t.Errorf("aborted %t, %q, %+v", aborted, p.text(), rec)
					}
					return
				}
				wantWithin(t, start, tc.took)
				rest, ok := strings.CutPrefix(p.text(), tc.want)
				if !ok || !aborted || rec.Outcome != gateway.OutcomeUpstreamError || rec.Code != apierr.UpstreamTimeout {
					t.Errorf("aborted %t, %q, %+v", aborted, p.text(), rec)
				}
				if told := strings.Contains(rest, apierr.UpstreamTimeout); told != (tc.kind == eventStream) {
					t.Errorf("ends with %q", rest)
				}
			})
		})
	}
}

// An error answer is looked at before it passes; one that never ends must not
// hold its request.
func TestIdleTimeoutOfAnErrorAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := streams("application/json", nil, at(`{"error":`), never)
		r := newRig(t, setup{provider: times(0, 4*time.Second), upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := answer(req)
			resp.StatusCode = 400
			return resp, err
		})})
		start := time.Now()
		a := r.do(r.chat(`{"model":"m"}`))
		wantWithin(t, start, 4*time.Second)
		r.wantError(a, http.StatusGatewayTimeout, apierr.UpstreamTimeout)
	})
}

// slowBody is a client's body that arrives in steps.
type slowBody struct {
	steps int
	step  time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.steps == 0 {
		return 0, io.EOF
	}
	<-time.After(b.step)
	b.steps--
	p[0] = 'x'
	return 1, nil
}

func (b *slowBody) Close() error { return nil }

// A slow upload is no slow provider: its wait begins when all is sent.
func TestHeaderTimeoutBeginsAfterAnUpload(t *testing.T) {
	upload := func(r *rig) *http.Request {
		req := r.request(http.MethodPost, uploadPath, "")
		req.Body, req.ContentLength = &slowBody{10, time.Second}, 10
		return req
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, setup{provider: times(3*time.Second, 0)})
		r.wantOK(r.do(upload(r)), "{}")
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, setup{provider: times(3*time.Second, 0)})
		r.upstream.answer = hang
		start := time.Now()
		a := r.do(upload(r))
		wantWithin(t, start, 13*time.Second)
		r.wantError(a, http.StatusGatewayTimeout, apierr.UpstreamTimeout)
	})
	synctest.Test(t, func(t *testing.T) { // the provider answers before the upload is over
		r := newRig(t, setup{provider: times(3*time.Second, -1), upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
			go func() { _, _ = io.Copy(io.Discard, req.Body) }()
			return streams("application/json", nil, piece{time.Minute, "{}"})(req)
		})})
		r.wantOK(r.do(upload(r)), "{}")
		<-time.After(time.Minute)
	})
}

func TestClientLeavesBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstreamEnded := make(chan error, 1)
		r := newRig(t, setup{upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
			_, err := hang(req)
			upstreamEnded <- err
			return nil, err
		})})
		ctx, leave := cancelAfter(t, time.Second)
		defer leave()
		start := time.Now()
		a := r.do(r.chat(`{"model":"m"}`).WithContext(ctx))
		wantWithin(t, start, time.Second)
		if err := <-upstreamEnded; err == nil {
			t.Error("the provider was not told")
		}
		if a.Code != 499 || a.Body.Len() > 0 || a.rec.Status != 499 || a.rec.Outcome != gateway.OutcomeClientCancelled || a.rec.Code != "" || a.aborted {
			t.Errorf("%d %q %+v", a.Code, a.Body, a.rec)
		}
	})
}

func TestClientLeavesAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, setup{upstream: streams(eventStream, nil, at("data: a\n\n"), never)})
		ctx, leave := cancelAfter(t, time.Second)
		defer leave()
		a := r.do(r.chat(`{"model":"m"}`).WithContext(ctx))
		if !a.aborted || a.Body.String() != "data: a\n\n" || a.rec.Outcome != gateway.OutcomeClientCancelled || a.rec.Code != "" || a.rec.Status != 200 {
			t.Errorf("aborted %t, %q, %+v", a.aborted, a.Body, a.rec)
		}
		if strings.Contains(r.log.String(), "broken off") {
			t.Error("a client that leaves is no warning")
		}
	})
}

// deafPage cannot be written to.
type deafPage struct{ *page }

func (deafPage) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestClientCannotBeWrittenTo(t *testing.T) {
	ended := make(chan struct{})
	r := newRig(t, setup{upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
		go func() { <-req.Context().Done(); close(ended) }()
		return streams(eventStream, nil, at("data: a\n\n"), never)(req)
	})})
	rec := new(gateway.Record)
	if aborted := r.serve(deafPage{newPage()}, r.chat(`{"model":"m"}`), rec); !aborted || rec.Outcome != gateway.OutcomeClientCancelled || rec.BytesOut != 0 {
		t.Errorf("aborted %t, record %+v", aborted, rec)
	}
	<-ended // the provider stops generating, and billing
}
