package adminapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
)

type access uint8

const (
	managed   access = iota // needs the management token
	usesStore               // and a database that answers
	public                  // needs nothing
)

// route is one row of the API: the only place where a method and a path meet
// their handler. The served description is held against these rows by a test.
type route struct {
	method  string
	pattern string // {…} stands for a canonical UUID
	access  access
	query   []string // accepted query parameters
	action  string   // what a call that changes something is called in the audit; "": it changes nothing
	handle  func(*call) (answer, error)
}

const projectPattern = "/manage/projects/{id}"

var (
	projectQuery = []string{"active", "q", "limit", "cursor", "count"}
	tokenQuery   = []string{"project_id", "projectId", "active", "q", "limit", "cursor", "count"}
	reasonQuery  = []string{"reason"}
	auditQuery   = []string{
		"action", "actor", "client_ip", "end_time", "method", "outcome", "page", "page_size", "path", "project_id",
		"request_id", "search", "start_time", "target_id", "token_id",
	}
	usageQuery    = []string{"from", "to", "group_by", "project_id", "token_id", "provider", "model", "end_user"}
	requestsQuery = []string{"project_id", "token_id", "provider", "model", "status", "outcome", "from", "to", "limit", "cursor", "follow"}
	followQuery   = []string{"project_id", "token_id", "provider", "model", "status", "outcome", "limit", "follow"}
	deadQuery     = []string{"sink", "limit", "cursor"}
)

func (a *API) table() []route {
	return []route{
		{http.MethodGet, "/manage/projects", usesStore, projectQuery, "", a.listProjects},
		{http.MethodPost, "/manage/projects", usesStore, nil, audit.ProjectCreate, a.createProject},
		{http.MethodGet, projectPattern, usesStore, nil, "", a.getProject},
		{http.MethodPatch, projectPattern, usesStore, nil, audit.ProjectUpdate, a.patchProject},
		{http.MethodGet, "/manage/projects/{id}/keys", usesStore, nil, "", a.listKeys},
		{http.MethodPost, "/manage/projects/{id}/keys", usesStore, nil, audit.KeyCreate, a.createKey},
		{http.MethodPatch, "/manage/projects/{id}/keys/{kid}", usesStore, nil, audit.KeyUpdate, a.patchKey},
		{http.MethodDelete, "/manage/projects/{id}/keys/{kid}", usesStore, nil, audit.KeyDelete, a.deleteKey},
		{http.MethodPost, "/manage/projects/{id}/tokens/revoke", usesStore, reasonQuery, audit.TokenRevokeBatch, a.revokeProjectTokens},
		{http.MethodGet, "/manage/tokens", usesStore, tokenQuery, "", a.listTokens},
		{http.MethodPost, "/manage/tokens", usesStore, nil, audit.TokenCreate, a.createToken},
		{http.MethodGet, "/manage/tokens/{id}", usesStore, nil, "", a.getToken},
		{http.MethodPatch, "/manage/tokens/{id}", usesStore, nil, audit.TokenUpdate, a.patchToken},
		{http.MethodDelete, "/manage/tokens/{id}", usesStore, reasonQuery, audit.TokenRevoke, a.revokeToken},
		{http.MethodPost, "/manage/tokens/{id}/rotate", usesStore, nil, audit.TokenRotate, a.rotateToken},
		{http.MethodGet, "/manage/audit", usesStore, auditQuery, "", a.listAudit},
		{http.MethodGet, "/manage/audit/{id}", usesStore, nil, "", a.getAudit},
		{http.MethodGet, "/manage/usage", usesStore, usageQuery, "", a.usage},
		{http.MethodGet, "/manage/requests", usesStore, requestsQuery, "", a.listRequests},
		{http.MethodGet, "/manage/requests/{id}", usesStore, nil, "", a.getRequest},
		{http.MethodGet, "/manage/events", usesStore, followQuery, "", a.followEvents},
		{http.MethodGet, "/manage/events/lag", managed, nil, "", a.eventLag},
		{http.MethodPost, "/manage/events/replay", usesStore, nil, audit.EventsReplay, a.replayEvents},
		{http.MethodGet, "/manage/events/dead", usesStore, deadQuery, "", a.listDead},
		{http.MethodPost, "/manage/events/dead", usesStore, nil, audit.EventsRequeue, a.requeueDead},
		{http.MethodPost, purgePattern, usesStore, nil, audit.CachePurge, a.purgeCache},
		{http.MethodGet, "/manage/cache/stats", managed, nil, "", a.cacheStats},
		{http.MethodGet, "/manage/providers", managed, nil, "", a.listProviders},
		{http.MethodGet, "/manage/openapi.json", managed, nil, "", serveDescription},
		{http.MethodGet, "/health", public, nil, "", a.health},
		{http.MethodHead, "/health", public, nil, "", a.health},
		{http.MethodGet, "/live", public, nil, "", a.live},
		{http.MethodHead, "/live", public, nil, "", a.live},
		{http.MethodGet, "/ready", public, nil, "", a.readiness},
		{http.MethodHead, "/ready", public, nil, "", a.readiness},
	}
}

// match finds the call's route and reads the ids in its path. A path that needed
// decoding is none of ours: there is one spelling of each.
func (a *API) match(c *call) (*route, error) {
	var allowed []string
	for i := range a.routes {
		rt := &a.routes[i]
		ids, ok := matchPattern(rt.pattern, c.r.URL.Path)
		if !ok || c.r.URL.RawPath != "" {
			continue
		}
		c.pattern = rt.pattern
		copy(c.ids[:], ids)
		if rt.method == c.r.Method {
			c.action = rt.action
			return rt, nil
		}
		allowed = append(allowed, rt.method)
	}
	if allowed == nil {
		return nil, fail(codeNotFound, "there is nothing at this path; GET /manage/openapi.json lists the calls")
	}
	slices.Sort(allowed)
	e := fail(codeMethodNotAllowed, "method not allowed")
	e.header = http.Header{"Allow": {strings.Join(allowed, ", ")}}
	if c.pattern == projectPattern && c.r.Method == http.MethodDelete {
		c.action = audit.ProjectDelete
		e.detail = "project deletion is not permitted" // the predecessor's words, which its clients show
	}
	return nil, e
}

func matchPattern(pattern, path string) ([]uuid.UUID, bool) {
	var ids []uuid.UUID
	for {
		want, restPattern, morePattern := strings.Cut(pattern, "/")
		got, restPath, morePath := strings.Cut(path, "/")
		if strings.HasPrefix(want, "{") {
			id, ok := parseID(got)
			if !ok {
				return nil, false
			}
			ids = append(ids, id)
		} else if want != got {
			return nil, false
		}
		if !morePattern || !morePath {
			return ids, morePattern == morePath
		}
		pattern, path = restPattern, restPath
	}
}

// parseID reads a UUID in its canonical form only, so that one object has one path.
func parseID(s string) (uuid.UUID, bool) {
	id, err := uuid.FromString(s)
	return id, err == nil && id.String() == s
}
