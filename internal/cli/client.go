package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const (
	maxAnswer   = 256 << 20 // a page of the largest rows that the API accepts
	maxPageSize = 1000
)

// APIError is a refusal by the management API.
type APIError struct {
	Status    int
	Code      string
	Message   string
	RequestID string
}

func (e *APIError) Error() string {
	if e.Code == "unauthorized" {
		return fmt.Sprintf("the management token was refused: give the proxy's own with MANAGEMENT_TOKEN or --management-token @FILE (request id %s)", e.RequestID)
	}
	return fmt.Sprintf("%s (%s, request id %s)", e.Message, e.Code, e.RequestID)
}

// Client calls the management API.
type Client struct {
	conn     *connection
	timeout  time.Duration // of a whole call, answer included
	pageSize int
}

// NewClient makes a client for the proxy at address. It does no I/O but reading
// root certificates.
func NewClient(address string, token secret.Value, trust Trust) (*Client, error) {
	conn, err := newConnection(address, token, trust)
	if err != nil {
		return nil, err
	}
	return &Client{conn, callTimeout, maxPageSize}, nil
}

// InClear reports whether the token would leave this machine unencrypted.
func (c *Client) InClear() bool { return c.conn.inClear() }

// Do makes one call. The answer is the body as it came, with its headers; a
// refusal is an [*APIError].
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, body any) (json.RawMessage, http.Header, error) {
	data, res, err := c.call(ctx, "", method, path, query, body)
	if err != nil {
		return nil, nil, err
	}
	if len(data) > 0 && !json.Valid(data) {
		return nil, nil, c.notOurs(res)
	}
	return data, res.Header, nil
}

// CSV gets an answer as CSV.
func (c *Client) CSV(ctx context.Context, path string, query url.Values) ([]byte, error) {
	const wanted = "text/csv"
	data, res, err := c.call(ctx, wanted, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), wanted) {
		return nil, c.notOurs(res)
	}
	return data, nil
}

// call makes one call and reads the answer, which is no refusal.
func (c *Client) call(ctx context.Context, accept, method, path string, query url.Values, body any) ([]byte, *http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, err := c.conn.sendFor(ctx, accept, method, path, query, body)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the answer: %w", c.conn.explain(err))
	}
	if len(data) > maxAnswer {
		return nil, nil, errors.New("the answer is too large: ask for less with --limit")
	}
	if res.StatusCode >= 300 {
		return nil, nil, c.refusal(res, data)
	}
	return data, res, nil
}

func (c *Client) refusal(res *http.Response, data []byte) error {
	e := &APIError{Status: res.StatusCode, RequestID: OneLine(res.Header.Get("X-Request-Id"))}
	var body struct{ Error, Message, Code string }
	if json.Unmarshal(data, &body) != nil || body.Code == "" {
		if strings.Contains(string(data), "HTTP request to an HTTPS server") {
			return fmt.Errorf("%s speaks https, not http: give its address with --url https://%s", c.conn.base, c.conn.base.Host)
		}
		return c.notOurs(res)
	}
	e.Code, e.Message = OneLine(body.Code), OneLine(body.Error)
	if body.Message != "" {
		e.Message += ": " + OneLine(body.Message)
	}
	return e
}

func (c *Client) notOurs(res *http.Response) error {
	return fmt.Errorf("%s answered %d, but not as the management API: the site needs llm_proxy_admin, or --url another address", c.conn.base, res.StatusCode)
}

// list fetches the rows of a list, page by page, at most limit of them; 0 means all.
func (c *Client) list(ctx context.Context, path string, query url.Values, limit int) ([]json.RawMessage, error) {
	rows := []json.RawMessage{} // an empty list is [], not null
	for {
		size := c.pageSize
		if limit > 0 {
			size = min(size, limit-len(rows))
		}
		query.Set("limit", strconv.Itoa(size))
		data, header, err := c.Do(ctx, http.MethodGet, path, query, nil)
		if err != nil {
			return nil, err
		}
		var page []json.RawMessage
		if err := json.Unmarshal(data, &page); err != nil {
			return nil, fmt.Errorf("reading the answer to %s: expected a list", path)
		}
		rows = append(rows, page...)
		cursor := nextCursor(header)
		if cursor == "" || limit > 0 && len(rows) >= limit {
			return rows, nil
		}
		if cursor == query.Get("cursor") {
			return nil, fmt.Errorf("%s leads from a page to itself", path)
		}
		query.Set("cursor", cursor)
	}
}

// nextCursor takes the cursor from a Link header (RFC 8288). The rest of the
// address is not used: the next page is where this one was.
func nextCursor(h http.Header) string { return linked(h, "cursor") }

func linked(h http.Header, parameter string) string {
	for _, value := range h.Values("Link") {
		for link := range strings.SplitSeq(value, ",") {
			target, params, ok := strings.Cut(strings.TrimSpace(link), ">")
			if !ok || !strings.Contains(strings.ReplaceAll(params, " ", ""), `;rel="next"`) {
				continue
			}
			if u, err := url.Parse(strings.TrimPrefix(target, "<")); err == nil {
				return u.Query().Get(parameter)
			}
		}
	}
	return ""
}
