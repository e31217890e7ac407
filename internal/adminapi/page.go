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

func (c *call) page() (page, error) {
	p := page{limit: defaultLimit}
	if text, given := c.query["limit"]; given {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit || strconv.Itoa(n) != text {
			return p, invalid("limit", "expected a whole number from 1 to %d", maxLimit)
		}
		p.limit = n
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
		next := c.r.URL.Query()
		next.Set("cursor", formatCursor(cursorOf(&rows[p.limit-1])))
		h.Set("Link", "<"+c.r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
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
