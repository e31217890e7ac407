package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func onlyModels(globs ...string) func(*token.Token) {
	return func(tok *token.Token) { tok.Policy.AllowedModels = globs }
}

// Wherever a request names its model, a token for gpt-4o* gets no other one.
func TestModelsAreRestrictedWhereverTheyStand(t *testing.T) {
	key := secret.NewValue(sharedKey)
	const forms = "Content-Type: application/x-www-form-urlencoded"
	for name, tc := range map[string]struct {
		method, target, body string
		lines                []string
		status               int
		code                 string
	}{
		"body":                         {body: `{"model":"gpt-4o-mini"}`},
		"body, another":                {body: `{"model":"o3"}`, status: 403, code: apierr.ModelNotAllowed},
		"no model":                     {body: `{}`, status: 403, code: apierr.ModelNotAllowed},
		"no body":                      {status: 403, code: apierr.ModelNotAllowed},
		"hidden, with a decoy":         {target: "/v1/realtime/client_secrets", body: `{"model":"gpt-4o","session":{"model":"o3"}}`, status: 403, code: apierr.ModelNotAllowed},
		"not a string":                 {body: `{"model":["gpt-4o"]}`, status: 400, code: apierr.InvalidJSON},
		"full resource name":           {body: `{"model":"models/gpt-4o"}`},
		"full resource name, another":  {body: `{"model":"models/o3"}`, status: 403, code: apierr.ModelNotAllowed},
		"repeated":                     {body: `{"model":"gpt-4o","model":"gpt-4o"}`, status: 400, code: apierr.InvalidJSON},
		"look-alike":                   {body: `{"model":"gpt-4o","Model":"o3"}`, status: 400, code: apierr.InvalidJSON},
		"query":                        {target: "/v1/chat/completions?model=o3", body: `{"model":"gpt-4o"}`, status: 403, code: apierr.ModelNotAllowed},
		"query, same":                  {target: "/v1/chat/completions?model=gpt-4o", body: `{"model":"gpt-4o"}`},
		"query, twice":                 {target: "/v1/chat/completions?model=gpt-4o&model=gpt-4o", body: `{}`, status: 400, code: apierr.ParamNotAllowed},
		"query, semicolon":             {target: "/v1/chat/completions?a=1;model=o3", body: `{"model":"gpt-4o"}`, status: 400, code: apierr.ParamNotAllowed},
		"query, semicolon after":       {target: "/v1/chat/completions?model=gpt-4o;b", body: `{}`, status: 400, code: apierr.ParamNotAllowed},
		"query, semicolons, no model":  {target: "/v1/chat/completions?a=1;b=2", body: `{"model":"gpt-4o"}`},
		"query, another case":          {target: "/v1/chat/completions?MODEL=o3", body: `{"model":"gpt-4o"}`, status: 403, code: apierr.ModelNotAllowed},
		"Azure path":                   {target: "/azure/deployments/gpt-4o/chat/completions", body: `{}`},
		"Azure path, another":          {target: "/azure/openai/deployments/o3/chat/completions?api-version=1", body: `{"model":"gpt-4o"}`, status: 403, code: apierr.ModelNotAllowed},
		"Gemini path":                  {target: "/gemini/v1beta/models/gpt-4o:generateContent", body: `{}`},
		"Gemini path, another":         {target: "/gemini/v1beta/models/gemini-pro:generateContent", body: `{"model":"models/gpt-4o"}`, status: 403, code: apierr.ModelNotAllowed},
		"Gemini body, another":         {target: "/gemini/v1beta/models/gpt-4o:generateContent", body: `{"model":"models/gemini-pro"}`, status: 403, code: apierr.ModelNotAllowed},
		"Gemini, escaped colon":        {target: "/gemini/v1beta/models/gemini-pro%3AgenerateContent", body: `{}`, status: 403, code: apierr.ModelNotAllowed},
		"Gemini list":                  {method: "GET", target: "/gemini/v1beta/models"},
		"GET":                          {method: "GET", target: "/v1/models"},
		"GET with a query":             {method: "GET", target: "/v1/models?model=o3", status: 403, code: apierr.ModelNotAllowed},
		"GET with a body":              {method: "GET", target: "/v1/models", body: `{"model":"o3"}`},
		"free of models":               {target: "/v1/vector_stores", body: `{"name":"x"}`},
		"form text":                    {body: "model=gpt-4o", lines: []string{forms}, status: 400, code: apierr.InvalidJSON},
		"JSON sent as a form":          {body: `{"model":"gpt-4o"}`, lines: []string{forms}},
		"JSON that is a form too":      {body: `{"model":"gpt-4o","x":"&model=o3&y="}`, lines: []string{forms}, status: 400, code: apierr.InvalidJSON},
		"JSON that is an escaped form": {body: `{"model":"gpt-4o","x":"&m%6fdel=o3&y="}`, lines: []string{"Content-Type: Application/X-WWW-Form-URLencoded; charset=utf-8"}, status: 400, code: apierr.InvalidJSON},
		"UTF-7":                        {body: `{"model":"gpt-4o","+AG0-odel":"o3"}`, lines: []string{"Content-Type: application/json; charset=utf-7"}, status: 400, code: apierr.InvalidJSON},
		"two charsets":                 {body: `{"model":"gpt-4o"}`, lines: []string{"Content-Type: application/json; charset=utf-8; charset=utf-7"}, status: 400, code: apierr.InvalidJSON},
		"Latin-1, ASCII":               {body: `{"model":"gpt-4o"}`, lines: []string{"Content-Type: application/json; charset=ISO-8859-1"}},
		"Latin-1, not ASCII":           {body: `{"model":"gpt-4o","x":"é"}`, lines: []string{"Content-Type: application/json; charset=ISO-8859-1"}, status: 400, code: apierr.InvalidJSON},
		"two types":                    {body: `{"model":"gpt-4o"}`, lines: []string{"Content-Type: application/json", "Content-Type: " + forms}, status: 400, code: apierr.InvalidJSON},
		"odd type":                     {body: `{"model":"gpt-4o"}`, lines: []string{"Content-Type: application/json, text/plain"}},
		"gzip":                         {body: `{"model":"gpt-4o"}`, lines: []string{"Content-Encoding: gzip"}, status: 400, code: apierr.InvalidJSON},
		"identity":                     {body: `{"model":"gpt-4o"}`, lines: []string{"Content-Encoding: identity"}},
		"two encodings":                {body: `{"model":"gpt-4o"}`, lines: []string{"Content-Encoding: identity", "Content-Encoding: gzip"}, status: 400, code: apierr.InvalidJSON},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{
				token: onlyModels("gpt-4o*"),
				others: []provider.Config{
					{Name: "gemini", APIKey: key},
					{Name: "azure", Type: "azure_openai", BaseURL: "https://acme.openai.azure.com", APIKey: key},
				},
			})
			if tc.method == "" {
				tc.method = http.MethodPost
			}
			if tc.target == "" {
				tc.target = "/v1/chat/completions"
			}
			a := r.do(r.request(tc.method, tc.target, tc.body, tc.lines...))
			switch {
			case tc.status == 0:
				r.wantOK(a, "{}")
			case strings.HasPrefix(tc.target, "/gemini/"):
				if a.Code != tc.status || a.rec.Code != tc.code || len(r.upstream.requests()) != 0 {
					t.Errorf("status %d, %s", a.Code, a.Body)
				}
			default:
				r.wantRefused(a, tc.status, tc.code)
			}
		})
	}
}

// The same with the project's list, and with the provider's allow_param.
func TestModelsAreRestrictedByEveryRule(t *testing.T) {
	for name, s := range map[string]setup{
		"project":  {project: func(p *project.Snapshot) { p.Policy.AllowedModels = []string{"gpt-4o*"} }},
		"provider": {provider: func(c *provider.Config) { c.Params = map[string][]string{"model": {"gpt-4o*"}} }},
	} {
		t.Run(name, func(t *testing.T) {
			status, code := 403, apierr.ModelNotAllowed
			if name == "provider" {
				status, code = 400, apierr.ParamNotAllowed
			}
			for _, body := range []string{`{"model":"o3"}`, `{}`} {
				r := newRig(t, s)
				r.wantRefused(r.do(r.chat(body)), status, code)
			}
			r := newRig(t, s)
			r.wantOK(r.do(r.chat(`{"model":"gpt-4o"}`)), "{}")
		})
	}
}

func TestParams(t *testing.T) {
	for body, allowed := range map[string]bool{
		`{}`: true,
		`{"temperature":0,"service_tier":"flex"}`:    true,
		`{"temperature":0.5}`:                        true,
		`{"temperature":1e0}`:                        false, // by its literal
		`{"temperature":2}`:                          false,
		`{"temperature":"0"}`:                        true, // globs are about the text
		`{"temperature":[0]}`:                        false,
		`{"temperature":{"x":0}}`:                    false,
		`{"temperature":null}`:                       false,
		`{"service_tier":"priority"}`:                false,
		`{"service_tier":"fl\u0065x"}`:               true,
		`{"nested":{"service_tier":"priority"}}`:     true,
		`{"service_tier":"flex","x":{"model":null}}`: true,
	} {
		r := newRig(t, setup{provider: func(c *provider.Config) {
			c.Params = map[string][]string{"temperature": {"0*"}, "service_tier": {"flex", "default"}}
		}})
		if a := r.do(r.chat(body)); allowed {
			r.wantOK(a, "{}")
		} else {
			r.wantRefused(a, http.StatusBadRequest, apierr.ParamNotAllowed)
		}
	}
}

// What a body says as JSON and what it says as a form must not differ.
func TestParamsOfAnotherReading(t *testing.T) {
	for body, allowed := range map[string]bool{
		`{"temperature":0,"x":"&temperature=2"}`:     false,
		`{"temperature":0,"x":";TEMPERATURE=2"}`:     false,
		`{"temperature":0,"x":"&top_p=2&y=a%zz&b;"}`: true,
	} {
		r := newRig(t, setup{provider: func(c *provider.Config) { c.Params = map[string][]string{"temperature": {"0"}} }})
		a := r.do(r.chat(body, "Content-Type: application/x-www-form-urlencoded"))
		if allowed {
			r.wantOK(a, "{}")
		} else {
			r.wantRefused(a, http.StatusBadRequest, apierr.InvalidJSON)
		}
	}
}

func form(kind string, fields ...string) string {
	var b strings.Builder
	for i := 0; i < len(fields); i += 2 {
		b.WriteString("--xyz\r\nContent-Disposition: form-data; name=\"" + fields[i] + "\"\r\n\r\n" + fields[i+1] + "\r\n")
	}
	return b.String() + "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: " + kind + "\r\n\r\nRIFF\r\n--xyz--\r\n"
}

// Uploads are looked into where a rule depends on it, and streamed elsewhere.
func TestModelsInUploads(t *testing.T) {
	const multi = "Content-Type: multipart/form-data; boundary=xyz"
	for name, tc := range map[string]struct {
		target, body string
		lines        []string
		status       int
		code         string
	}{
		"allowed":                {body: form("audio/wav", "model", "whisper-1"), lines: []string{multi}},
		"another":                {body: form("audio/wav", "model", "gpt-4o-transcribe"), lines: []string{multi}, status: 403, code: apierr.ModelNotAllowed},
		"none":                   {body: form("audio/wav"), lines: []string{multi}, status: 403, code: apierr.ModelNotAllowed},
		"repeated":               {body: form("audio/wav", "model", "whisper-1", "model", "o3"), lines: []string{multi}, status: 400, code: apierr.InvalidJSON},
		"two types":              {body: form("audio/wav", "model", "whisper-1"), lines: []string{multi, "Content-Type: multipart/form-data; boundary=abc"}, status: 400, code: apierr.InvalidJSON},
		"another charset":        {body: form("audio/wav", "model", "whisper-1"), lines: []string{multi + "; charset=utf-7"}, status: 400, code: apierr.InvalidJSON},
		"no type":                {body: form("audio/wav", "model", "whisper-1"), status: 400, code: apierr.InvalidJSON},
		"JSON":                   {body: `{"model":"whisper-1"}`, lines: []string{"Content-Type: application/json"}},
		"JSON, another":          {body: `{"model":"o3"}`, lines: []string{multi}, status: 400, code: apierr.InvalidJSON},
		"compressed":             {body: "xxxx", lines: []string{multi, "Content-Encoding: gzip"}, status: 400, code: apierr.InvalidJSON},
		"free of models":         {target: "/v1/files", body: form("application/jsonl", "purpose", "batch"), lines: []string{multi}},
		"free of models, raw":    {target: "/v1/uploads/u1/parts", body: "\x00\x01\x02", lines: []string{"Content-Type: application/octet-stream"}},
		"free of models, query":  {target: "/v1/files?model=o3", body: "\x00", status: 403, code: apierr.ModelNotAllowed},
		"free of models, zipped": {target: "/v1/files", body: "\x1f\x8b", lines: []string{"Content-Encoding: gzip"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{token: onlyModels("whisper-*")})
			if tc.target == "" {
				tc.target = "/v1/audio/transcriptions"
			}
			a := r.do(r.request(http.MethodPost, tc.target, tc.body, tc.lines...))
			if tc.status != 0 {
				r.wantRefused(a, tc.status, tc.code)
				return
			}
			r.wantOK(a, "{}")
			if got := string(r.upstream.only(t).body); got != tc.body {
				t.Errorf("the provider got %q", got)
			}
		})
	}
}

// Without rules any body passes, byte for byte; what it names is noted.
func TestBodiesPassUnjudged(t *testing.T) {
	for name, tc := range map[string]struct{ body, model string }{
		"JSON":           {` {"model":"gpt-4o", "n":1.0} `, "gpt-4o"},
		"not JSON":       {"model=gpt-4o", ""},
		"invalid UTF-8":  {"{\"model\":\"a\xff\"}", ""},
		"deep":           {strings.Repeat("[", 20_000), ""},
		"a number":       {`{"model":4}`, "4"},
		"lone surrogate": {`{"model":"m","x":"\ud800"}`, "m"},
		"odd type":       {`{"model":"m"}`, "m"},
		"Gemini's":       {`{"model":"models/gemini-pro"}`, "gemini-pro"},
		"long":           {`{"model":"` + strings.Repeat("m", 1000) + `"}`, strings.Repeat("m", 256) + "…"},
		"long, wide":     {`{"model":"` + strings.Repeat("€", 100) + `"}`, strings.Repeat("€", 85) + "…"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{})
			a := r.do(r.chat(tc.body, "Content-Type: text/plain; charset=utf-7"))
			r.wantOK(a, "{}")
			if got := string(r.upstream.only(t).body); got != tc.body {
				t.Errorf("the provider got %.100q", got)
			}
			if wantModel := tc.model; a.rec.Model != wantModel && name != "invalid UTF-8" {
				t.Errorf("model %q, want %q", a.rec.Model, wantModel)
			}
			if a.rec.BytesIn != int64(len(tc.body)) {
				t.Errorf("%d bytes in, want %d", a.rec.BytesIn, len(tc.body))
			}
		})
	}
}
