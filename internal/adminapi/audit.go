package adminapi

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	defaultPageSize = 20
	maxPageSize     = 100
	maxPage         = 1_000_000_000
	maxAuditText    = 1024 // of a filter
)

// auditPage is the predecessor's shape of a list, which its clients read.
type auditPage struct {
	Events     []audit.Event `json:"events"`
	Pagination pagination    `json:"pagination"`
}

type pagination struct {
	Page       int64 `json:"page"`
	PageSize   int64 `json:"page_size"`
	TotalCount int64 `json:"total_count"`
	TotalPages int64 `json:"total_pages"`
	HasNext    bool  `json:"has_next"`
	HasPrev    bool  `json:"has_prev"`
}

func (a *API) listAudit(c *call) (answer, error) {
	page, err := c.number("page", 1, maxPage)
	if err != nil {
		return answer{}, err
	}
	size, err := c.number("page_size", defaultPageSize, maxPageSize)
	if err != nil {
		return answer{}, err
	}
	query, err := c.auditQuery()
	if err != nil {
		return answer{}, err
	}
	entries, total, err := a.store.AuditPage(c.r.Context(), query, (page-1)*size, size)
	if err != nil {
		return answer{}, err
	}
	pages := (total + size - 1) / size
	out := auditPage{Events: make([]audit.Event, 0, len(entries)), Pagination: pagination{
		Page: page, PageSize: size, TotalCount: total, TotalPages: pages, HasNext: page < pages, HasPrev: page > 1,
	}}
	for i := range entries {
		out.Events = append(out.Events, entries[i].Event())
	}
	return ok(out)
}

func (a *API) getAudit(c *call) (answer, error) {
	e, err := a.store.AuditEntry(c.r.Context(), c.ids[0])
	if err != nil {
		return answer{}, found("audit record", err)
	}
	return ok(e.Event())
}

// number reads a parameter that counts from one.
func (c *call) number(name string, otherwise, most int64) (int64, error) {
	text, given := c.query[name]
	if !given {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > most || strconv.FormatInt(n, 10) != text {
		return 0, invalid(name, "expected a whole number from 1 to %d", most)
	}
	return n, nil
}

// auditQuery reads the filters. An empty one is refused: whoever sends it means
// something, and it would select everything.
func (c *call) auditQuery() (q storage.AuditQuery, err error) {
	for name, to := range map[string]*string{
		"action": &q.Action, "actor": &q.Actor, "outcome": &q.Outcome, "client_ip": &q.ClientIP,
		"request_id": &q.RequestID, "method": &q.Method, "path": &q.Path, "search": &q.Search,
	} {
		text, given := c.query[name]
		if !given {
			continue
		}
		if text == "" {
			return q, invalid(name, "is empty; leave it out for all")
		}
		if err := checkText(name, text, maxAuditText); err != nil {
			return q, err
		}
		*to = text
	}
	for name, to := range map[string]*uuid.UUID{"project_id": &q.ProjectID, "token_id": &q.TokenID, "target_id": &q.TargetID} {
		if text, given := c.query[name]; given {
			id, valid := parseID(text)
			if !valid || id.IsNil() {
				return q, invalid(name, "expected an id (a UUID in lower case)")
			}
			*to = id
		}
	}
	for name, to := range map[string]*time.Time{"start_time": &q.From, "end_time": &q.To} {
		if text, given := c.query[name]; given {
			if *to, err = time.Parse(time.RFC3339, text); err != nil || to.Year() < 1 || to.Year() > maxYear {
				return q, invalid(name, "expected a time with zone, such as 2030-01-31T18:00:00Z (RFC 3339)")
			}
		}
	}
	if !q.From.IsZero() && !q.To.IsZero() && q.To.Before(q.From) {
		return q, invalid("end_time", "is before start_time")
	}
	return q, c.checkAuditWords(&q)
}

// checkAuditWords refuses what no record can hold, so that a misspelt filter does
// not look like an empty audit.
func (c *call) checkAuditWords(q *storage.AuditQuery) error {
	switch q.Outcome {
	case "", audit.OutcomeSuccess, audit.OutcomeDenied, audit.OutcomeFailure:
	default:
		return invalid("outcome", "expected success, denied or failure")
	}
	if q.ClientIP != "" {
		addr, err := netip.ParseAddr(q.ClientIP)
		if err != nil {
			return invalid("client_ip", "expected an address such as 192.0.2.1 or 2001:db8::1")
		}
		q.ClientIP = addr.Unmap().String()
	}
	return nil
}

// auditLogin records a call without the management token. Neither what was
// presented nor the path, which may hold a token too, enters the record.
func (a *API) auditLogin(c *call) {
	a.refused.Login(audit.Entry{
		ClientIP:  a.clientIP(c.r),
		RequestID: c.requestID,
		Method:    methodLabel(c.r.Method),
		UserAgent: clip(c.r.UserAgent(), maxUserAgentBytes),
	})
}

// auditRefusal records that a call that would have changed something was refused.
// Its path has the form of a route, so it holds ids and nothing else.
func (a *API) auditRefusal(c *call, code string) {
	switch statusOf[code] {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusConflict, http.StatusRequestEntityTooLarge:
	default: // 401 is a login, and after a fault of ours nobody knows what was done
		return
	}
	if c.action == "" {
		return
	}
	e := a.entry(c, c.action)
	e.Outcome, e.Reason = audit.OutcomeFailure, code
	switch {
	case strings.Contains(c.pattern, "/keys"):
		e.TargetType, e.TargetID, e.ProjectID = audit.TargetProviderKey, c.ids[1], c.ids[0]
	case strings.HasPrefix(c.pattern, "/manage/projects"):
		e.TargetType, e.TargetID, e.ProjectID = audit.TargetProject, c.ids[0], c.ids[0]
	case strings.HasPrefix(c.pattern, "/manage/events"):
		e.TargetType = audit.TargetSink
	case strings.HasPrefix(c.pattern, "/manage/cache"):
		e.TargetType = audit.TargetCache
	default:
		e.TargetType, e.TargetID = audit.TargetToken, c.ids[0]
	}
	a.refused.Refused(e)
}
