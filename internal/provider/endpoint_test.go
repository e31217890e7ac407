package provider_test

import (
	"net/http"
	"testing"
)

func TestIsUpload(t *testing.T) {
	for _, tc := range []struct {
		kind, method, path string
		want               bool
	}{
		{"openai", "POST", "/v1/files", true},
		{"openai", "GET", "/v1/files", false},
		{"openai", "POST", "/v1/files/f1", false},
		{"openai", "POST", "/v1/uploads/u1/parts", true},
		{"openai", "POST", "/v1/uploads/u1/complete", false},
		{"openai", "POST", "/v1/uploads//parts", false},
		{"openai", "POST", "/v1/audio/transcriptions", true},
		{"openai", "POST", "/v1/audio/speech", false},
		{"openai", "POST", "/v1/images/edits", true},
		{"openai", "POST", "/v1/chat/completions", false},
		{"openai", "POST", "/v1/videos", true},
		{"azure_openai", "POST", "/azure_openai/openai/deployments/d/audio/transcriptions", true},
		{"azure_openai", "POST", "/azure_openai/openai/deployments/d/chat/completions", false},
		{"azure_openai", "POST", "/azure_openai/openai/files", true},
		{"gemini", "POST", "/gemini/upload/v1beta/files", true},
		{"gemini", "PUT", "/gemini/upload/v1beta/files/f1", true},
		{"gemini", "POST", "/gemini/v1beta/files", false},
		{"mistral", "POST", "/mistral/v1/ocr", true},
	} {
		route := match(t, table(t, preset(t, tc.kind, "")), tc.path)
		if got := route.IsUpload(tc.method); got != tc.want {
			t.Errorf("%s %s: %v, want %v", tc.method, tc.path, got, tc.want)
		}
	}
}

// A POST that is wrongly held to be free of models would be a way around
// allowed_models.
func TestNeedsModel(t *testing.T) {
	for _, tc := range []struct {
		kind, method, path string
		upgrade            bool
		want               bool
	}{
		{"openai", "POST", "/v1/chat/completions", false, true},
		{"openai", "POST", "/v1/chat/completions/", false, true},
		{"openai", "POST", "/v1/chat/completions/c1", false, false}, // metadata of a stored one
		{"openai", "PUT", "/v1/chat/completions", false, true},
		{"openai", "PATCH", "/v1/anything/new", false, true},
		{"openai", "GET", "/v1/chat/completions", false, false},
		{"openai", "DELETE", "/v1/files/f1", false, false},
		{"openai", "POST", "/v1/files", false, false},
		{"openai", "POST", "/v1/responses", false, true},
		{"openai", "POST", "/v1/responses/compact", false, true},
		{"openai", "POST", "/v1/responses/r1/cancel", false, false},
		{"openai", "POST", "/v1/batches", false, true},
		{"openai", "POST", "/v1/batches/b1/cancel", false, false},
		{"openai", "POST", "/v1/threads", false, false},
		{"openai", "POST", "/v1/threads/t1", false, false},
		{"openai", "POST", "/v1/threads/runs", false, true},
		{"openai", "POST", "/v1/threads/t1/runs", false, true},
		{"openai", "POST", "/v1/threads/t1/messages", false, false},
		{"openai", "POST", "/v1/assistants", false, true},
		{"openai", "POST", "/v1/videos", false, true},
		{"openai", "POST", "/v1/videos/edits", false, true},
		{"openai", "POST", "/v1/videos/v1/remix", false, true},
		{"openai", "POST", "/v1/fine_tuning/jobs", false, true},
		{"openai", "POST", "/v1/conversations", false, false},
		{"openai", "POST", "/v1/conversations/c1/items", false, false},
		{"mistral", "POST", "/v1/conversations", false, true},
		{"mistral", "POST", "/v1/conversations/c1", false, true},
		{"openai", "GET", "/v1/realtime", true, true},
		{"openai", "GET", "/v1/realtime", false, false},
		{"openai", "GET", "/v1/responses", true, true},
		{"anthropic", "POST", "/v1/messages", false, true},
		{"anthropic", "POST", "/v1/messages/batches", false, true},
		{"anthropic", "POST", "/v1/messages/batches/b1/cancel", false, false},
		{"gemini", "POST", "/gemini/v1beta/models/m:generateContent", false, true},
		{"gemini", "POST", "/gemini/upload/v1beta/files", false, false},
		{"gemini", "POST", "/gemini/v1beta/cachedContents", false, true},
		{"azure_openai", "POST", "/azure_openai/openai/deployments/d/chat/completions", false, true},
		{"azure_openai", "POST", "/azure_openai/openai/files", false, false},
		{"azure_openai", "POST", "/azure_openai/openai/v1/threads/runs", false, true},
	} {
		route := match(t, table(t, preset(t, tc.kind, "")), tc.path)
		if got := route.NeedsModel(tc.method, tc.upgrade); got != tc.want {
			t.Errorf("%s %s %s (upgrade %v): %v, want %v", tc.kind, tc.method, tc.path, tc.upgrade, got, tc.want)
		}
	}
}

func TestPathModel(t *testing.T) {
	for _, tc := range []struct {
		kind, path string
		want       string
		ok         bool
	}{
		{"gemini", "/gemini/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash", true},
		{"gemini", "/v1/models/gemini-2.5-flash:streamGenerateContent", "gemini-2.5-flash", true},
		{"gemini", "/gemini/v1beta/tunedModels/mine:generateContent", "mine", true},
		// However the colon is written, the provider reads a model there: a body
		// that names another one must not stand in for it.
		{"gemini", "/gemini/v1beta/models/expensive%3AgenerateContent", "expensive", true},
		{"gemini", "/gemini/v1beta/models/expensive%3agenerateContent", "expensive", true},
		{"gemini", "/gemini/v1beta/models/%65xpensive:generateContent", "expensive", true},
		{"gemini", "/gemini/v1beta/models/a%20b:generateContent", "a b", true},
		// What two servers could cut differently is no model that a list knows.
		{"gemini", "/gemini/v1beta/models/cheap:x:generateContent", "cheap:x:generateContent", true},
		{"gemini", "/gemini/v1beta/models/cheap:x/y:generateContent", "cheap:x/y:generateContent", true},
		{"gemini", "/gemini/v1beta/models/cheap/y:generateContent", "cheap/y", true},
		{"gemini", "/gemini/v1beta/models/cheap", "", false},
		{"gemini", "/gemini/v1beta/models", "", false},
		{"gemini", "/gemini/v1beta/models/:generateContent", "", false},
		{"gemini", "/gemini/v1beta/openai/chat/completions", "", false},
		{"azure_openai", "/azure_openai/openai/deployments/gpt-4o/chat/completions", "gpt-4o", true},
		{"azure_openai", "/azure_openai/openai/deployments/gpt%2D4o/chat/completions", "gpt-4o", true},
		{"azure_openai", "/azure_openai/openai/deployments/gpt%3A4o/chat/completions", "gpt:4o", true},
		{"azure_openai", "/azure_openai/openai/deployments/", "", false},
		{"azure_openai", "/azure_openai/openai/v1/chat/completions", "", false},
		{"openai", "/v1/models/gpt-4o:x", "", false},
	} {
		route := match(t, table(t, preset(t, tc.kind, "")), tc.path)
		if got, ok := route.PathModel(); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %q, %v; want %q, %v", tc.path, got, ok, tc.want, tc.ok)
		}
	}
}

func TestMethodsOfPresets(t *testing.T) {
	for kind, patch := range map[string]bool{"openai": false, "anthropic": false, "gemini": true} {
		p := preset(t, kind, "")
		got := false
		for _, m := range p.Methods {
			got = got || m == http.MethodPatch
		}
		if got != patch {
			t.Errorf("%s: PATCH allowed: %v, want %v", kind, got, patch)
		}
	}
}
