package adminapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
)

const (
	maxRequestIDBytes = 128
	maxUserAgentBytes = 256
)

// call is one request on its way through the API.
type call struct {
	w         http.ResponseWriter
	r         *http.Request
	requestID string
	start     time.Time
	pattern   string            // of the matched route; what logs show instead of the path
	action    string            // of the matched route, for the audit
	actor     string            // who calls, for the audit
	ids       [2]uuid.UUID      // those of the path, in order
	query     map[string]string // each parameter at most once
}

// answer is what a handler wants to be sent. A nil body sends none.
type answer struct {
	status int
	header http.Header
	body   any // marshalled, or sent as it is when it is a [jsontext.Value]
}

func ok(body any) (answer, error) { return answer{status: http.StatusOK, body: body}, nil }

func created(location string, body any) (answer, error) {
	return answer{status: http.StatusCreated, header: http.Header{"Location": {location}}, body: body}, nil
}

// encode makes the bytes of the body.
func (ans *answer) encode() (jsontext.Value, error) {
	if text, raw := ans.body.(jsontext.Value); raw || ans.body == nil {
		return text, nil
	}
	return json.Marshal(ans.body, json.Deterministic(true))
}

func (c *call) write(ans answer, text jsontext.Value) {
	h := c.w.Header()
	for name, values := range ans.header {
		h[name] = values
	}
	if text != nil {
		if ans.header.Get("Content-Type") == "" {
			h.Set("Content-Type", "application/json")
		}
		h.Set("Content-Length", strconv.Itoa(len(text)))
	}
	c.w.WriteHeader(ans.status)
	if text != nil && c.r.Method != http.MethodHead {
		_, _ = c.w.Write(text) // the client left: nobody to tell
	}
}

// entry starts the audit record of this call; the action's own fields follow.
func (a *API) entry(c *call, action string) audit.Entry {
	return audit.Entry{
		Actor:     c.actor,
		Action:    action,
		Outcome:   audit.OutcomeSuccess,
		ClientIP:  a.clientIP(c.r),
		RequestID: c.requestID,
		Method:    c.r.Method,
		Path:      c.r.URL.Path,
		UserAgent: clip(c.r.UserAgent(), maxUserAgentBytes),
		Reason:    c.query["reason"],
	}
}

// requestID is the client's own id when it is fit for logs, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if id != "" && len(id) <= maxRequestIDBytes && !strings.ContainsFunc(id, unfitForID) {
		return id
	}
	return uuid.Must(uuid.NewV7()).String() // fails only without a source of randomness, which ends the process anyway
}

func unfitForID(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		return false
	}
	return true
}

// clip shortens s to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
