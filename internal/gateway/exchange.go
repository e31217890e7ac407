package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// statusClientClosed is what access logs of nginx and Caddy show for a client
// that left before its answer began.
const statusClientClosed = 499

// exchange is one request on its way through the gateway.
type exchange struct {
	g        *Gateway
	w        http.ResponseWriter
	r        *http.Request
	route    provider.Route
	rec      *Record
	identity token.Identity

	method  string // of the request as the provider would see it
	upgrade bool   // a WebSocket handshake
	upload  bool
	refused uuid.UUID // the token that was not accepted; whether it was right, the error says
	named   [3]string // room for the models that the request names
	asked   []string  // those that it does
	scratch [1]byte
	text    [headerText]byte // room for the values of headers
	payload []byte           // the body, judged; nil: it has none, or it is an upload

	ctx     context.Context // ends with the client, or when the request is cut
	cancel  context.CancelCauseFunc
	flight  flight
	listed  bool // the flight is registered
	wrote   bool // the answer's header is out
	done    bool // Serve has not panicked
	sending *uploadBody
	tunnel  *apierr.Error
	headerT time.Time     // when the provider's header had come
	reading time.Duration // what the client took to send its body
	meter   meter

	governed *governed   // nil: no limit applies
	reached  atomic.Bool // a connection to the provider was there; known of requests that hold something
	answered bool        // the provider's header has come
	requests limit.Quota // how the limits stood, for headers
	tokens   limit.Quota

	cached   *caching // nil: there is no cache
	caching  caching  // room for it
	fetched  *fetch   // the provider's side of this request; nil: it is its own
	fetching bool     // this is one
	req      *http.Request
}

// Serve answers a request that [Gateway.Match] says is ours and fills rec,
// which the caller may keep. It panics with [http.ErrAbortHandler], like
// httputil.ReverseProxy, when an answer that has begun cannot be completed: so no
// client takes it for complete.
func (g *Gateway) Serve(w http.ResponseWriter, r *http.Request, m Match, rec *Record) {
	x := &exchange{g: g, w: w, r: r, route: m.route, rec: rec}
	*rec = newRecord()
	defer x.finish()
	if err := x.serve(m); err != nil {
		x.fail(err)
	}
	x.done = true
}

// NewRequestID makes the id of a request, a UUIDv7.
func NewRequestID() string {
	_, text := newRequestID()
	return text
}

func newRequestID() (uuid.UUID, string) {
	id, err := uuid.NewV7()
	if err != nil {
		id, _ = uuid.NewV4() // only the clock sequence can fail; an id is needed all the same
	}
	return id, id.String()
}

// serve is the request's way: every step may end it with an error.
func (x *exchange) serve(m Match) *apierr.Error {
	if !m.valid {
		return errEndpoint
	}
	x.classify()
	x.rec.Provider, x.rec.ProviderType = x.route.Provider.Name, x.route.Provider.Type
	x.rec.Method, x.rec.Endpoint, x.rec.Operation = x.method, x.route.Endpoint, x.route.Operation()
	if isEarlyData(x.r) {
		return errTooEarly
	}
	if err := x.g.cfg.Ready(x.r.Context()); err != nil {
		return err
	}
	if err := x.recognise(); err != nil {
		return err
	}
	if m.self {
		return x.serveSelf()
	}
	if err := x.admit(); err != nil {
		return err
	}
	if x.upgrade {
		return x.serveTunnel()
	}
	if err := x.takeBody(); err != nil {
		return err
	}
	if x.cached != nil {
		return x.serveCached()
	}
	return x.forward(x.outbound())
}

// classify settles what kind of request this is.
func (x *exchange) classify() {
	x.method = x.r.Method
	if isExtendedConnect(x.r) && x.route.Upgradable() {
		x.method = http.MethodGet // RFC 8441: the handshake of HTTP/1.1 is a GET
		x.upgrade = true
	} else if x.method == http.MethodGet && listsToken(x.r.Header["Connection"], "Upgrade") {
		x.upgrade = listsToken(x.r.Header["Upgrade"], "websocket")
	}
	x.upgrade = x.upgrade && x.route.Upgradable()
	x.upload = x.route.IsUpload(x.method)
}

// isEarlyData reports a TLS 0-RTT request with effects: it may be replayed, and
// a replayed completion costs money (RFC 8470).
func isEarlyData(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete && r.Method != http.MethodGet && r.Method != http.MethodHead
}

func isExtendedConnect(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	return r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket" || r.ProtoMajor == 3 && r.Proto == "websocket"
}

// recognise authenticates the client and registers the request, so that a
// change from now on can end it.
func (x *exchange) recognise() *apierr.Error {
	credential, ok := clientCredential(x.r)
	if !ok {
		return errInvalidToken
	}
	generation := x.g.cfg.Authority.Generation()
	if err := x.authenticate(credential); err != nil {
		return err
	}
	x.ctx, x.cancel = context.WithCancelCause(x.r.Context())
	x.flight.tokenID, x.flight.projectID = x.identity.Token.ID, x.identity.Project.ID
	if t := x.identity.Token.ExpiresAt; t != nil {
		x.flight.expires = *t
	}
	x.flight.cancel, x.flight.writer = x.cancel, x.w
	x.g.cfg.Inflight.add(&x.flight)
	x.listed = true
	if x.g.cfg.Authority.Generation() != generation {
		return x.authenticate(credential) // something was revoked before we were listed
	}
	return nil
}

func (x *exchange) authenticate(credential string) *apierr.Error {
	id, err := x.g.cfg.Authority.Authenticate(x.r.Context(), credential)
	if err == nil {
		x.identity = id
		x.rec.TokenID, x.rec.ProjectID = id.Token.ID, id.Project.ID
		return nil
	}
	if id, unknown := x.g.cfg.Authority.RowID(credential); unknown == nil {
		x.refused = id
	}
	switch {
	case errors.Is(err, token.ErrExpired):
		return errTokenExpired
	case errors.Is(err, token.ErrInactive):
		return errTokenInactive
	case errors.Is(err, token.ErrProjectInactive):
		return errProjectInactive
	case errors.Is(err, token.ErrUnavailable):
		return errStore.WithCause(err)
	default:
		return errInvalidToken
	}
}

// fail answers with an error of ours, or ends an answer that has begun.
func (x *exchange) fail(err *apierr.Error) {
	var ours *apierr.Error
	if errors.As(x.cause(), &ours) { // what failed did so because we cut the request
		err = ours
	}
	x.rec.Code = err.Code
	if x.rec.Outcome == "" {
		x.rec.Outcome = x.outcomeOf(err)
	}
	if x.rec.Outcome == OutcomeClientCancelled {
		x.rec.Code = ""
		if !x.wrote {
			x.rec.Status = statusClientClosed
			x.w.WriteHeader(statusClientClosed)
		}
		return
	}
	if c := x.g.cfg.Logger; err.Status >= 500 && err.Code != apierr.NotCached && c.Enabled(context.Background(), slog.LevelWarn) {
		c.Warn("request failed", "request_id", x.rec.RequestID, "code", err.Code, "provider", x.rec.Provider, "cause", err.Cause)
	}
	x.rec.Status = err.Status
	x.wrote = true
	x.tellDenied(err)
	x.publishRefusal()
	x.addHeaders(x.w.Header())
	apierr.Write(x.w, x.dialect(), err, x.rec.RequestID)
}

// tellDenied passes on what policy refused.
func (x *exchange) tellDenied(err *apierr.Error) {
	if x.g.cfg.Denied == nil || x.rec.Outcome != OutcomeRefused {
		return
	}
	if err.Status != http.StatusForbidden && err.Code != apierr.TokenExpired && err.Code != apierr.TokenInactive {
		return
	}
	id := x.rec.TokenID
	if id.IsNil() {
		id = x.refused
	}
	x.g.cfg.Denied(id, x.rec.ProjectID, err.Code, x.g.cfg.ClientIP(x.r))
}

func (x *exchange) outcomeOf(err *apierr.Error) string {
	switch cause := x.cause(); {
	case cause == nil:
	case errors.Is(cause, errTokenInactive), errors.Is(cause, errTokenExpired), errors.Is(cause, errProjectInactive):
		return OutcomeCut
	}
	if x.rec.Attempts > 0 {
		return OutcomeUpstreamError
	}
	if x.r.Context().Err() != nil {
		return OutcomeClientCancelled
	}
	return OutcomeRefused
}

// cause is why the request's context ended, nil while it has not.
func (x *exchange) cause() error {
	if x.ctx == nil {
		return nil
	}
	return context.Cause(x.ctx)
}

// dialect is the one in which this request's errors are told.
func (x *exchange) dialect() apierr.Dialect {
	if x.route.Provider == nil { // a path without a canonical form has no route
		return apierr.OpenAI
	}
	return x.route.Dialect()
}

// finish settles what there is to settle, however the request ended.
func (x *exchange) finish() {
	if x.listed {
		x.g.cfg.Inflight.remove(&x.flight)
		x.cancel(nil)
	}
	x.rec.Latency = time.Since(x.rec.Started)
	if x.sending != nil {
		x.rec.BytesIn = x.sending.taken.Load()
	}
	x.conclude(x.done)
	if x.fetched != nil && !x.fetched.meet(x) {
		x.meter.release() // the fetch goes on, and tells of both when it ends
		return
	}
	x.account()
	x.settleLimits()
	x.publish()
	x.meter.release()
	if x.g.cfg.Observe != nil {
		x.g.cfg.Observe(x.rec)
	}
}

// conclude names the outcome, unless what ended the request has named it.
func (x *exchange) conclude(done bool) {
	switch {
	case x.rec.Outcome != "":
	case x.r.Context().Err() != nil && !done:
		x.rec.Outcome = OutcomeClientCancelled
	case x.rec.Status >= 400 || !done:
		x.rec.Outcome = OutcomeUpstreamError
	default:
		x.rec.Outcome = OutcomeOK
	}
}
