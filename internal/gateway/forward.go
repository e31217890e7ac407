package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// outbound makes the request that the provider gets, short of its credential.
func (x *exchange) outbound() *http.Request {
	req := http.Request{
		Method: x.method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Host: x.route.Provider.Host(), URL: x.route.URL(x.query()),
		Header: x.g.outboundHeader(x.r.Header, x.upload),
	}
	body := x.payload
	if x.rec.Stream {
		body = x.askForUsage(body)
	}
	switch {
	case x.sending != nil:
		req.Body, req.ContentLength = x.sending, x.r.ContentLength
	case len(body) > 0:
		req.Body, req.ContentLength = outboundBody(body), int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return outboundBody(body), nil }
	case x.method != http.MethodGet && x.method != http.MethodHead:
		req.Body = http.NoBody
	}
	return req.WithContext(x.traced(x.ctx))
}

// query is the client's query less its credential. HTTP/2 and 3 let through
// spaces, which would end the target in a request line of HTTP/1.1.
func (x *exchange) query() string {
	return strings.ReplaceAll(withoutKey(x.r.URL.RawQuery), " ", "%20")
}

// takeBody takes and judges the request's body: none for methods without one, a
// stream for uploads that no rule looks into, else its bytes.
func (x *exchange) takeBody() *apierr.Error {
	var in inspection
	names := x.g.paramNames[x.route.Provider.Name]
	if x.method == http.MethodGet || x.method == http.MethodHead {
		in.params = newParams(names)
		if err := x.judge(&in, scanOK, false); err != nil {
			return err
		}
		x.beginCaching(nil)
		return x.govern(&ask{}, nil)
	}
	if x.upload && !x.mustInspect() {
		in.params = newParams(names)
		if err := x.judge(&in, scanOK, false); err != nil {
			return err
		}
		if err := x.govern(&ask{}, nil); err != nil {
			return err
		}
		x.beginCaching(nil)
		return x.takeUpload()
	}
	if encoding := x.r.Header["Content-Encoding"]; len(encoding) > 0 && (len(encoding) > 1 || encoding[0] != "identity") {
		return errCompressed
	}
	began := time.Now()
	body, err := readBody(x.r, x.g.cfg.MaxBody, &x.scratch)
	x.reading = time.Since(began)
	if err != nil {
		return err
	}
	x.rec.BytesIn = int64(len(body))
	if len(body) > 0 && x.mustJudge() {
		if err := x.checkType(body, names); err != nil {
			return err
		}
	}
	problem := scanNotJSON
	in.params = newParams(names)
	var size ask
	var asked *ask // nil: nobody wants to know
	if x.sized() {
		asked = &size
	}
	switch contentType := x.r.Header.Get("Content-Type"); {
	case len(body) == 0:
	case x.upload && isMultipart(contentType):
		in, problem = inspectForm(body, contentType, names)
	default:
		in, problem = inspectJSON(body, names, asked)
	}
	if err := x.judge(&in, problem, len(body) > 0); err != nil {
		return err
	}
	x.rec.EndUser = in.endUser
	if err := x.govern(&size, body); err != nil {
		return err
	}
	x.captureRequest(body)
	x.beginCaching(body)
	x.payload = body
	return nil
}

func (x *exchange) takeUpload() *apierr.Error {
	limit := x.g.cfg.MaxUpload
	switch {
	case x.r.ContentLength > limit:
		return errTooLarge
	case x.r.ContentLength != 0:
		x.sending = &uploadBody{body: x.r.Body, left: limit}
	}
	return nil
}

// forward sends the request with the provider's credential and passes the
// answer on.
func (x *exchange) forward(req *http.Request) *apierr.Error {
	credential, err := x.credential()
	if err != nil {
		return err
	}
	p := x.route.Provider
	setCredential(req, p.Auth, credential)
	sendOnce(req.Header)
	x.rec.Attempts++
	sent := time.Now()
	if x.cached != nil {
		x.cached.sent = sent
	}
	x.awaitHeader(p.ResponseHeaderTimeout)
	resp, rtErr := x.g.cfg.Transports[p.Name].RoundTrip(req)
	x.flight.arrived()
	x.headerT = time.Now()
	x.rec.Upstream = x.headerT.Sub(sent)
	if rtErr != nil {
		err := x.upstreamFailure(req, rtErr)
		if !x.fetching && x.standsIn(0) {
			return nil
		}
		return err
	}
	x.answered = true
	defer resp.Body.Close()
	if err := x.screen(resp, credential); err != nil {
		if !x.fetching && x.standsIn(0) {
			return nil
		}
		return err
	}
	if !x.fetching && x.standsIn(resp.StatusCode) {
		return nil
	}
	if x.cached != nil {
		x.cacheAnswered(resp)
		if x.confirms(resp) {
			if resp = x.confirmed(resp); resp == nil {
				httpcache.ClearConditions(req.Header)
				return x.forward(req)
			}
		}
	}
	return x.relay(resp)
}

// awaitHeader starts the clock of the wait for the provider's header: after the
// whole request is sent, so that a slow upload does not look like a slow provider.
func (x *exchange) awaitHeader(d time.Duration) {
	if x.sending == nil || d == 0 {
		x.g.cfg.Inflight.await(&x.flight, d)
		return
	}
	x.flight.limit.Store(sending)
	x.sending.sent = func() { x.g.cfg.Inflight.awaitSent(&x.flight, d) }
}

// credential is the project's key for the provider, or the shared one.
func (x *exchange) credential() (secret.Value, *apierr.Error) {
	p, project := x.route.Provider, x.identity.Project
	var broken error
	for i := range project.Credentials {
		c := &project.Credentials[i]
		if c.Provider != p.Name {
			continue
		}
		if c.Err == nil {
			x.rec.KeyID = c.KeyID
			return c.Secret, nil
		}
		broken = c.Err
	}
	switch {
	case broken != nil: // a project's own key that cannot be opened is no reason to spend the shared one
		return secret.Value{}, errNoCredential.WithCause(broken)
	case project.UseSharedKeys && !p.APIKey.IsZero():
		return p.APIKey, nil
	case p.Keyless:
		return secret.Value{}, nil
	}
	return secret.Value{}, errNoCredential
}

// setCredential is the last thing that happens to a request before it is sent.
func setCredential(req *http.Request, auth provider.Auth, credential secret.Value) {
	if credential.IsZero() {
		return
	}
	switch auth.Scheme {
	case provider.AuthBearer:
		req.Header["Authorization"] = []string{"Bearer " + credential.Reveal()}
	case provider.AuthHeader:
		req.Header[auth.Name] = []string{credential.Reveal()}
	case provider.AuthQuery:
		if req.URL.RawQuery = withoutParam(req.URL.RawQuery, auth.Name); req.URL.RawQuery != "" {
			req.URL.RawQuery += "&"
		}
		req.URL.RawQuery += url.QueryEscape(auth.Name) + "=" + url.QueryEscape(credential.Reveal())
	}
}

// sendOnce spells headers so that net/http does not take the request for one that it may
// send a second time by itself (Request.isReplayable): the first may have been billed,
// and was counted once.
func sendOnce(h http.Header) {
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
}

// upstreamFailure explains why there is no answer. The transport's error is
// for logs alone.
func (x *exchange) upstreamFailure(req *http.Request, err error) *apierr.Error {
	var ours *apierr.Error
	if cause := x.cause(); cause != nil {
		if errors.As(cause, &ours) {
			return ours
		}
		x.rec.Outcome = OutcomeClientCancelled
		return errUpstream.WithCause(cause)
	}
	if upload, ok := req.Body.(*uploadBody); ok {
		switch {
		case upload.exceeded.Load():
			x.rec.Outcome = OutcomeRefused
			return errTooLarge
		case upload.failed.Load():
			x.rec.Outcome = OutcomeClientCancelled
			return errBodyRead
		}
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return errUpstreamTimeout.WithCause(err)
	}
	return errUpstream.WithCause(err)
}
