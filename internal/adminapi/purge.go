package adminapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	purgePattern = "/manage/cache/purge"

	// recordTimeout bounds the recording of a purge, which is done by then: whoever
	// asked for it may have left.
	recordTimeout = 5 * time.Second
)

// cachePurge is the body of a purge: one selector.
type cachePurge struct {
	Key       opt[string] `json:"key"`
	URL       opt[string] `json:"url"`
	Method    opt[string] `json:"method"`
	Prefix    opt[string] `json:"prefix"`
	Pattern   opt[string] `json:"pattern"`
	ProjectID opt[string] `json:"project_id"`
	Model     opt[string] `json:"model"`
	All       opt[bool]   `json:"all"`
}

type purgedView struct {
	Deleted int    `json:"deleted"`
	Warning string `json:"warning,omitempty"`
}

// selector is what the body selects, and the member that says so.
func (in *cachePurge) selector() (sel respcache.Selector, member string, err error) {
	given := 0
	for _, m := range []struct {
		name  string
		by    respcache.By
		value opt[string]
	}{
		{"key", respcache.ByKey, in.Key}, {"url", respcache.ByURL, in.URL}, {"prefix", respcache.ByPrefix, in.Prefix},
		{"pattern", respcache.ByPattern, in.Pattern}, {"project_id", respcache.ByProject, in.ProjectID}, {"model", respcache.ByModel, in.Model},
	} {
		switch {
		case m.value.null:
			return sel, "", invalid(m.name, "may not be null; leave it out instead")
		case m.value.set:
			given++
			sel.By, sel.Value, member = m.by, m.value.value, m.name
		}
	}
	switch {
	case in.Method.null:
		return sel, "", invalid("method", "may not be null; leave it out for any")
	case in.All.set && (in.All.null || !in.All.value):
		return sel, "", invalid("all", "expected true; leave it out otherwise")
	case in.All.set:
		given++
		sel.By, member = respcache.ByAll, "all"
	}
	if given != 1 {
		return sel, "", fail(codeInvalidRequest, `expected exactly one of "key", "url", "prefix", "pattern", "project_id", "model" and "all": true`)
	}
	sel.Method = in.Method.value
	if in.Method.set && (sel.By != respcache.ByURL || sel.Method == "") {
		return sel, "", invalid("method", "goes with url alone, such as GET")
	}
	return sel, member, checkSelector(&sel, member)
}

// checkSelector refuses what would match nothing, and takes out of a URL what is no
// part of what is stored, such as its host.
func checkSelector(sel *respcache.Selector, member string) error {
	if err := firstOf(checkText(member, sel.Value, maxBodyBytes), checkText("method", sel.Method, maxBodyBytes)); err != nil {
		return err
	}
	switch sel.By {
	case respcache.ByURL:
		sel.Value = withoutKey(respcache.NormalizeURL(sel.Value))
	case respcache.ByPrefix:
		if strings.Contains(sel.Value, "?") {
			return invalid(member, "a path has no query; purge by url")
		}
	case respcache.ByProject:
		if _, valid := parseID(sel.Value); !valid {
			return invalid(member, "expected an id (a UUID in lower case)")
		}
	}
	if err := sel.Check(); err != nil {
		return fail(codeInvalidRequest, err.Error()) // which names no value
	}
	return nil
}

// checkPath refuses a path as clients have it that says which provider is meant: what
// is stored has the provider's own, so it would match nothing.
func (a *API) checkPath(sel *respcache.Selector, member string) error {
	switch sel.By {
	case respcache.ByURL, respcache.ByPrefix, respcache.ByPattern:
	default:
		return nil
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(sel.Value, "/"), "/")
	for _, p := range a.providers() {
		if first == p.Name {
			return invalid(member, "paths are those of the provider, such as /v1/messages: leave out /%s", first)
		}
	}
	return nil
}

// withoutKey takes credentials out of a URL's query, as they are when answers are
// stored, so that the audit does not show them either.
func withoutKey(target string) string {
	path, query, found := strings.Cut(target, "?")
	if !found {
		return target
	}
	var pairs []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil && decoded == "key" {
			continue
		}
		pairs = append(pairs, pair)
	}
	if len(pairs) == 0 {
		return path
	}
	return path + "?" + strings.Join(pairs, "&")
}

// purgeCache purges, unless nobody could record it.
func (a *API) purgeCache(c *call) (answer, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), pingTimeout)
	defer cancel()
	if err := a.store.Ping(ctx); err != nil {
		return answer{}, err
	}
	return a.purge(c)
}

// ServePurge serves a purge that comes by another way than [API.ServeHTTP], from
// somebody whom the host has let in; actor names them in the audit. A database that is
// away does not keep it from being done here.
func (a *API) ServePurge(w http.ResponseWriter, r *http.Request, actor string) {
	c := &call{w: w, r: r, requestID: requestID(r), start: time.Now(), actor: actor, pattern: purgePattern}
	a.respond(c, func(c *call) (_ answer, err error) {
		if r.Method != http.MethodPost {
			e := fail(codeMethodNotAllowed, "method not allowed")
			e.header = http.Header{"Allow": {http.MethodPost}}
			return answer{}, e
		}
		c.action = audit.CachePurge
		if c.query, err = parseQuery(r.URL.RawQuery, nil); err != nil {
			return answer{}, err
		}
		return a.purge(c)
	})
}

// purge purges and records it, with how many entries were deleted. It is done first,
// and may be repeated: nothing is lost by forgetting twice.
func (a *API) purge(c *call) (answer, error) {
	var in cachePurge
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	sel, member, err := in.selector()
	if err == nil {
		err = a.checkPath(&sel, member)
	}
	if err != nil {
		return answer{}, err
	}
	deleted, purgeErr := a.cache.Purge(c.r.Context(), sel)
	pending := errors.Is(purgeErr, respcache.ErrPending)

	ch := changes{member: {After: sel.Value}, "deleted": {After: deleted}}
	if sel.By == respcache.ByAll {
		ch[member] = audit.Change{After: true}
	}
	if sel.Method != "" {
		ch["method"] = audit.Change{After: sel.Method}
	}
	if purgeErr != nil {
		ch["complete"] = audit.Change{After: false}
	}
	recordErr := a.recordPurge(c, sel, ch)
	switch {
	case purgeErr != nil && !pending:
		if recordErr != nil {
			a.log.LogAttrs(c.r.Context(), slog.LevelError, "recording a purge", slog.String("request_id", c.requestID), slog.Any("error", recordErr))
		}
		return answer{}, &failure{
			code: codePurgeIncomplete, text: "purged on this node; others may not know of it, so repeat it", cause: purgeErr,
		}
	case recordErr != nil:
		return answer{}, &failure{code: asFailure(recordErr).code, text: "purged, but not recorded in the audit; repeat it", cause: recordErr}
	case pending:
		a.log.LogAttrs(c.r.Context(), slog.LevelWarn, "a purge is not complete", slog.String("request_id", c.requestID), slog.Any("error", purgeErr))
		return answer{status: http.StatusAccepted, body: purgedView{deleted, "Redis is away: it will be told when it answers, unless this process ends before; repeat the purge to be sure"}}, nil
	}
	return ok(purgedView{Deleted: deleted})
}

func (a *API) recordPurge(c *call, sel respcache.Selector, ch changes) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), recordTimeout)
	defer cancel()
	e := a.entry(c, audit.CachePurge)
	e.TargetType, e.Changes = audit.TargetCache, ch
	if sel.By == respcache.ByProject {
		e.ProjectID, _ = parseID(sel.Value) // checked
	}
	return a.store.Update(ctx, func(tx *storage.Tx) error { return tx.Audit(ctx, e) })
}
