package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// tunnelKey finds the exchange of an upgrade in its request's context.
type tunnelKey struct{}

// serveTunnel hands a WebSocket handshake to the host's proxy, whose transport
// is [TunnelTransport]: hijacking, and copying both ways, is its trade.
func (x *exchange) serveTunnel() *apierr.Error {
	if x.g.cfg.Tunnel == nil {
		return errEndpoint
	}
	var in inspection
	in.params = newParams(x.g.paramNames[x.route.Provider.Name])
	if err := x.judge(&in, scanOK, false); err != nil {
		return err
	}
	if err := x.govern(&ask{}, nil); err != nil {
		return err
	}
	x.rec.Stream = true
	defer x.endTunnel()
	err := x.g.cfg.Tunnel(x.w, x.bareHandshake())
	switch {
	case x.tunnel != nil: // no answer of the provider reached the client
		return x.tunnel
	case err != nil && !x.wrote:
		return x.upstreamFailure(&http.Request{}, err)
	}
	return nil
}

// bareHandshake is the client's handshake as the host's proxy may see it, and
// log it: without credentials, wherever they were.
func (x *exchange) bareHandshake() *http.Request {
	r := x.r.WithContext(context.WithValue(x.ctx, tunnelKey{}, x))
	r.Header = make(http.Header, len(handshakeHeaders))
	for _, name := range handshakeHeaders {
		if values, ok := x.r.Header[name]; ok {
			r.Header[name] = values
		}
	}
	u := *x.r.URL
	u.RawQuery = withoutKey(u.RawQuery)
	r.URL, r.RequestURI = &u, u.RequestURI()
	return r
}

// handshakeHeaders make a request an upgrade: RFC 6455, and RFC 8441 for HTTP/2.
var handshakeHeaders = []string{"Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions", ":protocol"}

// endTunnel records how an upgraded connection ended, by a panic of the host's
// proxy too.
func (x *exchange) endTunnel() {
	var ours *apierr.Error
	if cause := x.cause(); cause != nil && errors.As(cause, &ours) {
		x.rec.Outcome, x.rec.Code = OutcomeCut, ours.Code
	}
}

// TunnelTransport makes the upstream side of an upgrade. It ignores the
// headers that a generic proxy has prepared but those of the handshake, and sets the
// credential where no log of that proxy can see it.
type TunnelTransport struct{}

// RoundTrip implements [http.RoundTripper] for requests that carry an exchange.
func (TunnelTransport) RoundTrip(prepared *http.Request) (*http.Response, error) {
	x, ok := prepared.Context().Value(tunnelKey{}).(*exchange)
	if !ok {
		return nil, errors.New("gateway: not an upgrade of the gateway")
	}
	resp, err := x.handshake(prepared)
	if err != nil {
		x.tunnel = err
		return nil, err
	}
	return resp, nil
}

func (x *exchange) handshake(prepared *http.Request) (*http.Response, *apierr.Error) {
	credential, err := x.credential()
	if err != nil {
		return nil, err
	}
	p := x.route.Provider
	req := &http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: p.Host(), Body: http.NoBody,
		URL:    x.route.URL(x.query()),
		Header: x.g.outboundHeader(x.r.Header, false),
	}
	delete(req.Header, "Accept-Encoding")
	metered := usage.KindOf(x.method, x.route.Endpoint) == usage.KindRealtime
	for name, values := range prepared.Header {
		// The generic proxy spells these as RFC 6455 does, which is not Go's canonical form.
		switch canonical := http.CanonicalHeaderKey(name); canonical {
		case "Sec-Websocket-Key", "Sec-Websocket-Version":
			req.Header[canonical] = values
		case "Sec-Websocket-Extensions":
			if !metered { // what is compressed cannot be metered
				req.Header[canonical] = values
			}
		}
	}
	if protocols := withoutKeyProtocols(x.r.Header["Sec-Websocket-Protocol"]); protocols != "" {
		req.Header["Sec-Websocket-Protocol"] = []string{protocols}
	}
	req.Header["Connection"] = []string{"Upgrade"}
	req.Header["Upgrade"] = []string{"websocket"}
	setCredential(req, p.Auth, credential)
	x.rec.Attempts++
	sent := time.Now()
	x.g.cfg.Inflight.await(&x.flight, p.ResponseHeaderTimeout)
	resp, rtErr := x.g.cfg.Transports[p.Name].RoundTrip(req.WithContext(x.traced(x.ctx)))
	x.flight.arrived()
	x.rec.Upstream = time.Since(sent)
	if rtErr != nil {
		return nil, x.upstreamFailure(req, rtErr)
	}
	x.answered = true
	if err := x.screen(resp, credential); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	header := make(http.Header, len(resp.Header))
	copyResponseHeader(header, resp.Header)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		header["Connection"], header["Upgrade"] = resp.Header["Connection"], resp.Header["Upgrade"]
		if conn, ok := resp.Body.(io.ReadWriteCloser); ok && metered {
			x.meter.session, x.meter.kind = newSession(conn), usage.KindRealtime
			resp.Body = x.meter.session
		}
	}
	resp.Header = header
	x.rec.Status, x.rec.UpstreamRequestID, x.wrote = resp.StatusCode, upstreamRequestID(resp.Header), true
	x.addHeaders(resp.Header)
	return resp, nil
}

// withoutKeyProtocols is the list of WebSocket subprotocols less those by which
// browsers pass what other clients put into credential and organisation headers.
func withoutKeyProtocols(lines []string) string {
	var kept []string
	for _, line := range lines {
		for protocol := range strings.SplitSeq(line, ",") {
			protocol = strings.TrimSpace(protocol)
			if protocol == "" || strings.HasPrefix(protocol, protocolKeyPrefix) ||
				strings.HasPrefix(protocol, "openai-organization.") || strings.HasPrefix(protocol, "openai-project.") {
				continue
			}
			kept = append(kept, protocol)
		}
	}
	return strings.Join(kept, ", ")
}
