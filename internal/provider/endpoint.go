package provider

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// uploadEndpoints take files or audio as multipart forms or raw bytes, which
// are streamed through. A * stands for one segment.
var uploadEndpoints = []string{
	"/v1/files", "/files", "/v1/uploads/*/parts", "/v1/videos",
	"/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits", "/v1/images/variations",
	"/v1/realtime/calls", "/v1/ocr",
	"/deployments/*/audio/transcriptions", "/deployments/*/audio/translations", "/deployments/*/images/edits",
	"/upload/v1beta/files", "/upload/v1beta/files/*",
}

// modelFreePosts are the POSTs that use no model, so that a restriction to
// certain models does not concern them, unless the preset says otherwise. All
// others must name one.
var modelFreePosts = []string{
	"/v1/files", "/files", "/v1/uploads", "/v1/uploads/*", "/v1/uploads/*/parts", "/v1/uploads/*/complete", "/v1/uploads/*/cancel",
	"/v1/chat/completions/*", "/v1/responses/*/cancel", "/v1/batches/*/cancel", "/batches/*/cancel", "/v1/messages/batches/*/cancel",
	"/v1/fine_tuning/jobs/*/cancel", "/v1/fine_tuning/jobs/*/pause", "/v1/conversations", "/v1/conversations/*", "/v1/conversations/*/items",
	"/v1/vector_stores", "/v1/vector_stores/*", "/v1/vector_stores/*/files", "/v1/vector_stores/*/search",
	"/v1/threads", "/v1/threads/*", "/v1/threads/*/messages",
	"/upload/v1beta/files", "/v1beta/files",
}

// modelPosts look like one of modelFreePosts, but run a model.
var modelPosts = []string{"/v1/threads/runs"}

// hiddenModelPosts name their models deeper in the body or in a file, where
// they are not read: a model at the top would be a decoy.
var hiddenModelPosts = []string{
	"/v1/batches", "/batches", "/v1/messages/batches", "/v1/batch/jobs", "/v1beta/batches",
	"/v1/realtime/client_secrets", "/v1/realtime/calls",
}

// HidesModel reports whether a request to the route may use models that cannot
// be seen in it.
func (r *Route) HidesModel(method string) bool {
	return method == http.MethodPost && slices.Contains(hiddenModelPosts, r.Endpoint)
}

// IsUpload reports whether the endpoint's body is a file rather than JSON.
func (r *Route) IsUpload(method string) bool {
	return (method == http.MethodPost || method == http.MethodPut) && matchTemplates(uploadEndpoints, r.Endpoint)
}

// NeedsModel reports whether a request to the route uses a model, and so must
// name it where only certain models are allowed.
func (r *Route) NeedsModel(method string, upgrade bool) bool {
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		return !matchTemplates(modelFreePosts, r.Endpoint) || slices.Contains(modelPosts, r.Endpoint) ||
			matchTemplates(r.Provider.modelPosts, r.Endpoint)
	}
	return upgrade
}

// Upgradable reports whether the endpoint speaks WebSocket. Elsewhere an
// Upgrade header is not passed on.
func (r *Route) Upgradable() bool {
	return r.Endpoint == "/v1/realtime" || r.Endpoint == "/realtime" || strings.HasPrefix(r.Endpoint, "/ws/")
}

// PathModel is the model that the path names, as Gemini's and Azure's do, with
// its escapes decoded as the provider decodes them. A name that two servers could
// cut differently is returned whole, so that no list of models knows it.
func (r *Route) PathModel() (string, bool) {
	if rest, ok := strings.CutPrefix(r.Endpoint, "/deployments/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		name, _ = url.PathUnescape(name) // canonical: every escape is valid
		return name, name != ""
	}
	if r.Provider.dialect != apierr.Gemini {
		return "", false
	}
	for _, prefix := range []string{"/v1beta/models/", "/v1/models/", "/v1beta/tunedModels/"} {
		if rest, ok := strings.CutPrefix(r.Endpoint, prefix); ok {
			rest, _ = url.PathUnescape(rest)
			name, action, found := strings.Cut(rest, ":")
			if !found {
				return "", false // about a model, without using it
			}
			if strings.ContainsAny(action, ":/") {
				return rest, true
			}
			return name, name != ""
		}
	}
	return "", false
}

// matchTemplates compares segment by segment, without allocating.
func matchTemplates(templates []string, path string) bool {
	for _, t := range templates {
		if matchTemplate(t, path) {
			return true
		}
	}
	return false
}

func matchTemplate(template, path string) bool {
	wild := strings.IndexByte(template, '*')
	if wild < 0 {
		return template == path
	}
	if !strings.HasPrefix(path, template[:wild]) {
		return false
	}
	for {
		ts, tRest, tMore := strings.Cut(template, "/")
		ps, pRest, pMore := strings.Cut(path, "/")
		if ts != ps && (ts != "*" || ps == "") || tMore != pMore {
			return false
		}
		if !tMore {
			return true
		}
		template, path = tRest, pRest
	}
}
