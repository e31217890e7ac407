package cachetests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pause is how long the tests' pauses are.
const Pause = 3 * time.Second

// Proxy is a cache under test.
type Proxy struct {
	// Base is the address before /test/…: https://localhost:8443/v1
	Base string
	// Transport carries the requests; it follows no redirects.
	Transport http.RoundTripper
	// Origin is what the cache asks.
	Origin *Origin
	// Header is added to every request: a credential.
	Header http.Header
	// Wait lets time pass. Nil waits.
	Wait func(context.Context, time.Duration) error
}

// Outcome is how a test ended.
type Outcome string

const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	// Setup: the test did not get to its point, since something that it needs did not happen.
	Setup Outcome = "setup"
)

// Result is a test's outcome and, if it is not Pass, what was not as expected.
type Result struct {
	Outcome Outcome
	Message string
}

// judgement is an expectation that was not met.
type judgement struct {
	setup   bool
	message string
}

func (j *judgement) Error() string { return j.message }

func check(ok, setup bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return &judgement{setup: setup, message: fmt.Sprintf(format, args...)}
}

// Run runs one test. An error of the transport fails it.
func (p *Proxy) Run(ctx context.Context, t *Test) Result {
	id := p.Origin.begin(t)
	got, err := p.requests(ctx, t, id)
	seen := p.Origin.end(id)
	if err == nil {
		err = checkSeen(t.Steps, got, seen)
	}
	var j *judgement
	switch {
	case err == nil:
		return Result{Outcome: Pass}
	case errors.As(err, &j) && j.setup:
		return Result{Setup, j.message}
	default:
		return Result{Fail, err.Error()}
	}
}

// response is what the client got.
type response struct {
	status int
	header http.Header
	body   string
}

func (r *response) get(name string) string { return strings.Join(r.header.Values(name), ", ") }

// count is the origin's number of the response; 0: it has none.
func (r *response) count() int {
	n, _ := strconv.Atoi(r.header.Get("Server-Request-Count"))
	return n
}

func (p *Proxy) requests(ctx context.Context, t *Test, id string) ([]*response, error) {
	var all []*response
	for i := range t.Steps {
		s := &t.Steps[i]
		var previous *response
		if i > 0 {
			previous = all[i-1]
		}
		got, err := p.send(ctx, t, i, id, previous)
		if err != nil {
			return all, fmt.Errorf("request %d: %w", i+1, err)
		}
		all = append(all, got)
		if err := s.check(i+1, got, id); err != nil {
			return all, err
		}
		if s.Pause {
			if err := p.wait(ctx); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

func (p *Proxy) wait(ctx context.Context) error {
	if p.Wait != nil {
		return p.Wait(ctx, Pause)
	}
	timer := time.NewTimer(Pause + 50*time.Millisecond) // ages count from when the origin answered
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (p *Proxy) send(ctx context.Context, t *Test, i int, id string, previous *response) (*response, error) {
	s := &t.Steps[i]
	url := p.Base + "/test/" + id
	if s.File != "" {
		url += "/" + s.File
	}
	if s.Query != "" {
		url += "?" + s.Query
	}
	var body io.Reader
	if s.RequestBody != "" {
		body = strings.NewReader(s.RequestBody)
	}
	req, err := http.NewRequestWithContext(ctx, s.method(), url, body)
	if err != nil {
		return nil, err
	}
	if s.RequestHeader == nil { // so that nobody adds others
		req.Header.Set("Pragma", "foo")
		req.Header.Set("Cache-Control", "nothing-to-see-here")
	}
	for _, f := range s.RequestHeader {
		now := time.Time{}
		if s.MagicIMS && previous != nil && strings.EqualFold(f.Name, "If-Modified-Since") {
			now = previous.originTime()
		}
		req.Header.Add(f.Name, s.value(&f, now, ""))
	}
	req.Header.Set("Test-Id", t.ID)
	req.Header.Set("Req-Num", strconv.Itoa(i+1))
	for name, values := range p.Header {
		req.Header[name] = slices.Clone(values)
	}
	resp, err := p.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	return &response{status: resp.StatusCode, header: resp.Header, body: string(text)}, nil
}

func (r *response) originTime() time.Time {
	at, _ := time.Parse(time.RFC3339Nano, r.header.Get("Server-Now"))
	return at
}
