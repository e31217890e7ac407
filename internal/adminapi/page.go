package adminapi

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	maxTextBytes = 255 // of ?q= and ?reason=
	cursorBytes  = 8 + uuid.Size
)

// parseQuery reads the query parameters of a call. Those that the route does not
// have, and repeated ones, are refused: a misspelt filter must not list everything.
func parseQuery(raw string, known []string) (map[string]string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fail(codeInvalidRequest, "the query string is malformed")
	}
	query := make(map[string]string, len(values))
	for name, v := range values {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return nil, invalid(clip(name, 64), "unknown query parameter; this call has none")
		case !slices.Contains(known, name):
			return nil, invalid(clip(name, 64), "unknown query parameter; known are %s", strings.Join(known, ", "))
		case len(v) > 1:
			return nil, invalid(name, "given more than once")
		}
		query[name] = v[0]
	}
	for _, name := range []string{"q", "reason"} {
		if err := checkText(name, query[name], maxTextBytes); err != nil {
			return nil, err
		}
	}
	return query, nil
}

// page is the part of a list that a call asks for.
type page struct {
	limit int
	after storage.Cursor
	count bool
}

func (c *call) page() (p page, err error) {
	if p.limit, err = c.limit(); err != nil {
		return p, err
	}
	if text, given := c.query["cursor"]; given {
		cursor, ok := parseCursor(text)
		if !ok {
			return p, invalid("cursor", "take it from the Link header of the page before, or leave it out")
		}
		p.after = cursor
	}
	count, err := c.flag("count")
	p.count = count != nil && *count
	return p, err
}

func (c *call) limit() (int, error) {
	n, err := c.number("limit", defaultLimit, maxLimit)
	return int(n), err
}

// position reads a place in the event log or among dead letters; zero is the start.
func (c *call) position(name string) (int64, error) {
	text, given := c.query[name]
	if !given {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || positionText(n) != text {
		return 0, invalid(name, "take it from the Link header of the answer before")
	}
	return n, nil
}

func positionText(n int64) string { return strconv.FormatInt(n, 10) }

// flag reads a parameter that is true or false; nil when it is absent.
func (c *call) flag(name string) (*bool, error) {
	switch text, given := c.query[name]; {
	case !given:
		return nil, nil
	case text == "true", text == "false":
		yes := text == "true"
		return &yes, nil
	}
	return nil, invalid(name, "expected true or false")
}

// listed makes the answer to a list. rows holds one more than the page when
// there is a next one: asking for it is cheaper than counting.
func listed[T any](c *call, p page, total func() (int64, error), rows []T, cursorOf func(*T) storage.Cursor) (answer, error) {
	h := http.Header{}
	if len(rows) > p.limit {
		rows = rows[:p.limit]
		h.Set("Link", c.next("cursor", formatCursor(cursorOf(&rows[p.limit-1]))))
	}
	if p.count {
		n, err := total()
		if err != nil {
			return answer{}, err
		}
		h.Set("X-Total-Count", strconv.FormatInt(n, 10))
	}
	return answer{status: http.StatusOK, header: h, body: rows}, nil
}

// next is the Link header that leads to the same list, from another place on.
func (c *call) next(parameter, place string) string {
	query := c.r.URL.Query()
	query.Set(parameter, place)
	return "<" + c.r.URL.Path + "?" + query.Encode() + `>; rel="next"`
}

// listing makes the answer to a list whose next page begins at cursor; "": this is
// the last one.
func (c *call) listing(rows any, cursor string) (answer, error) {
	if cursor == "" {
		return ok(rows)
	}
	return c.linked(rows, "cursor", cursor)
}

func (c *call) linked(rows any, parameter, place string) (answer, error) {
	return answer{status: http.StatusOK, header: http.Header{"Link": {c.next(parameter, place)}}, body: rows}, nil
}

// A cursor is the creation time, in microseconds as it is stored, and the id of
// the last row seen.
func formatCursor(at storage.Cursor) string {
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, cursorBytes), uint64(at.CreatedAt.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(raw, at.ID[:]...))
}

func parseCursor(text string) (storage.Cursor, bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != cursorBytes {
		return storage.Cursor{}, false
	}
	micros := int64(binary.BigEndian.Uint64(raw))
	if latest := time.Date(maxYear, time.December, 31, 0, 0, 0, 0, time.UTC).UnixMicro(); micros <= 0 || micros > latest {
		return storage.Cursor{}, false
	}
	return storage.Cursor{CreatedAt: time.UnixMicro(micros).UTC(), ID: uuid.UUID(raw[8:])}, true
}
