package gateway_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
)

const (
	chatPath   = "/v1/chat/completions"
	uploadPath = "/v1/files"
)

func limited(t *testing.T) *rig {
	return newRig(t, setup{gateway: func(c *gateway.Config) { c.MaxBody, c.MaxUpload = 1000, 5000 }})
}

// sized makes a request whose body has n bytes, announced or not.
func (r *rig) sized(path string, n int, announced bool) (*http.Request, *watchedBody) {
	req := r.request(http.MethodPost, path, strings.Repeat(" ", n))
	body := &watchedBody{Reader: req.Body}
	req.Body = body
	if !announced {
		req.ContentLength = -1
	}
	return req, body
}

func TestBodyLimits(t *testing.T) {
	for _, tc := range []struct {
		name, path string
		limit      int
	}{{"JSON", chatPath, 1000}, {"upload", uploadPath, 5000}} {
		t.Run(tc.name, func(t *testing.T) {
			for _, announced := range []bool{true, false} {
				for _, n := range []int{1, tc.limit - 1, tc.limit} {
					r := limited(t)
					req, _ := r.sized(tc.path, n, announced)
					a := r.do(req)
					r.wantOK(a, "{}")
					got := r.upstream.only(t)
					if len(got.body) != n || a.rec.BytesIn != int64(n) {
						t.Errorf("%d of %d bytes reached the provider, %d recorded", len(got.body), n, a.rec.BytesIn)
					}
					if want := int64(n); tc.path == chatPath && got.ContentLength != want || announced && got.ContentLength != want {
						t.Errorf("Content-Length %d, want %d", got.ContentLength, want)
					}
				}
				for _, n := range []int{tc.limit + 1, 10 * tc.limit} {
					r := limited(t)
					req, body := r.sized(tc.path, n, announced)
					a := r.do(req)
					if tc.path == uploadPath && !announced {
						r.wantError(a, http.StatusRequestEntityTooLarge, apierr.RequestTooLarge)
						if a.rec.Outcome != gateway.OutcomeRefused {
							t.Errorf("outcome %s", a.rec.Outcome)
						}
						continue
					}
					r.wantRefused(a, http.StatusRequestEntityTooLarge, apierr.RequestTooLarge)
					if announced && body.reads > 0 {
						t.Error("a body that announced too much was read")
					}
				}
			}
		})
	}
}

// endless is a body without an end that counts what was taken of it.
type endless struct{ taken int }

func (e *endless) Read(p []byte) (int, error) { e.taken += len(p); return len(p), nil }
func (e *endless) Close() error               { return nil }

// No more is taken of a body that exceeds the limit than it takes to know.
func TestEndlessBodies(t *testing.T) {
	for path, limit := range map[string]int{chatPath: 1000, uploadPath: 5000} {
		r := limited(t)
		body := new(endless)
		req := r.request(http.MethodPost, path, "")
		req.Body, req.ContentLength = body, -1
		r.wantError(r.do(req), http.StatusRequestEntityTooLarge, apierr.RequestTooLarge)
		if body.taken > limit+1 {
			t.Errorf("%s: %d bytes were taken, want at most %d", path, body.taken, limit+1)
		}
	}
}

// The biggest bodies of the default configuration are not copied about.
func TestLongAnnouncedBody(t *testing.T) {
	for _, n := range []int{1 << 20, 1<<20 + 1, 3 << 20} {
		r := newRig(t, setup{})
		text := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		req := r.request(http.MethodPost, chatPath, string(text))
		r.wantOK(r.do(req), "{}")
		if !bytes.Equal(r.upstream.only(t).body, text) {
			t.Errorf("a body of %d bytes was changed", n)
		}
	}
}

// brokenBody gives some bytes, then fails.
type brokenBody struct {
	io.Reader
	err error
}

func (b *brokenBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}
func (b *brokenBody) Close() error { return nil }

func TestShortBodies(t *testing.T) {
	for name, tc := range map[string]struct {
		length int64
		err    error
	}{
		"less than announced":       {100, io.EOF},
		"cut":                       {100, io.ErrUnexpectedEOF},
		"cut, unannounced":          {-1, io.ErrUnexpectedEOF},
		"more than announced":       {5, io.EOF},
		"broken chunks":             {-1, errors.New("http: invalid chunk")},
		"long, less than announced": {2 << 20, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{})
			req := r.request(http.MethodPost, chatPath, "")
			req.Body, req.ContentLength = &brokenBody{strings.NewReader(`{"model":"m"}`), tc.err}, tc.length
			r.wantRefused(r.do(req), http.StatusBadRequest, apierr.InvalidJSON)
		})
	}
}

// A client that breaks off its upload is gone: nobody reads an answer.
func TestBrokenUpload(t *testing.T) {
	r := newRig(t, setup{})
	req := r.request(http.MethodPost, uploadPath, "")
	req.Body, req.ContentLength = &brokenBody{strings.NewReader("abc"), io.ErrUnexpectedEOF}, 100
	a := r.do(req)
	if a.Code != 499 || a.rec.Status != 499 || a.rec.Outcome != gateway.OutcomeClientCancelled || a.rec.Code != "" || a.Body.Len() > 0 {
		t.Errorf("%d %q %+v", a.Code, a.Body, a.rec)
	}
}

func TestBodilessMethods(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		r := newRig(t, setup{})
		req := r.request(method, "/v1/models", `{"model":"o3"}`)
		body := &watchedBody{Reader: req.Body}
		req.Body = body
		if a := r.do(req); a.Code != http.StatusOK {
			t.Errorf("%s: status %d", method, a.Code)
		}
		if got := r.upstream.only(t); len(got.body) > 0 || got.ContentLength != 0 || body.reads > 0 {
			t.Errorf("%s: the body was forwarded or read", method)
		}
	}
	r := newRig(t, setup{})
	r.wantOK(r.do(r.request("POST", "/v1/batches/b1/cancel", "")), "{}")
	if got := r.upstream.only(t); got.Body == nil || got.ContentLength != 0 {
		t.Errorf("an empty POST has length %d, body %v", got.ContentLength, got.Body)
	}
}

// A body can be sent again on another connection, in full, any number of times.
func TestBodyCanBeSentAgain(t *testing.T) {
	const text = `{"model":"gpt-4o"}`
	r := newRig(t, setup{})
	r.upstream.answer = func(req *http.Request) (*http.Response, error) {
		for range 2 {
			again, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			if data, _ := io.ReadAll(again); string(data) != text {
				t.Errorf("sent again: %q", data)
			}
			_ = again.Close()
		}
		return reply(http.StatusOK, "application/json", "{}"), nil
	}
	r.wantOK(r.do(r.chat(text)), "{}")
	r = newRig(t, setup{})
	req, _ := r.sized(uploadPath, 10, true)
	r.wantOK(r.do(req), "{}")
	if r.upstream.only(t).GetBody != nil {
		t.Error("an upload that is streamed through cannot be sent again")
	}
}
