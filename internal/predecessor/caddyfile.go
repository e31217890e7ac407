package predecessor

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// Caddyfile writes the providers as blocks for the option llm_proxy, which it can
// import. notes tell what has no counterpart and restricts nothing. A rule that
// cannot be written is an error.
func (p *Providers) Caddyfile() (text string, notes []string, err error) {
	w := &caddyfileWriter{}
	w.line(0, "# provider blocks for the global option llm_proxy, made from api_providers.yaml")
	if p.Default != "" && p.Default != "openai" {
		w.line(0, "# default_api: write `provider "+p.Default+"` in the directive llm_proxy")
	}
	for _, name := range p.names() {
		w.api(name, p.APIs[name])
	}
	return w.b.String(), w.notes, errors.Join(w.errs...)
}

type caddyfileWriter struct {
	b     strings.Builder
	name  string // of the provider
	notes []string
	errs  []error
}

func (w *caddyfileWriter) api(name string, api API) {
	w.name = name
	if err := provider.CheckName(name); err != nil {
		w.fail("", err)
		return
	}
	w.line(0, "provider "+name+" {")
	base, kind := w.base(name, &api)
	if kind != name {
		w.option("type", kind)
	}
	w.option("base_url", base)
	w.list("allow_endpoints", "allowed_endpoints", endpoints(api.Endpoints), project.CheckEndpoint)
	w.list("allow_methods", "allowed_methods", w.methods(api.Methods), provider.CheckMethod)
	for _, param := range slices.Sorted(maps.Keys(api.Params)) {
		if len(api.Params[param]) == 0 || param == "" {
			w.fail("param_whitelist."+param, errors.New("it allows nothing: give values, or remove it"))
			continue
		}
		w.option("allow_param", append([]string{param}, api.Params[param]...)...)
	}
	w.list("allow_origins", "allowed_origins", api.Origins, provider.CheckOrigin)
	w.list("require_headers", "required_headers", canonical(api.RequiredHeaders), checkHeader)
	w.timeouts(&api)
	w.line(0, "}")
}

// base is the base URL and the preset to start from. The predecessor put paths
// behind the host, so a version that all of them begin with belongs to the base.
func (w *caddyfileWriter) base(name string, api *API) (base, kind string) {
	base, kind = strings.TrimRight(api.BaseURL, "/"), "openai"
	if err := provider.CheckBaseURL(base); err != nil {
		w.fail("base_url", err)
		return base, kind
	}
	u, err := url.Parse(base)
	if err != nil { // it was checked
		w.fail("base_url", errors.New("it is not a URL"))
		return base, kind
	}
	if _, ok := provider.PresetFor(name); ok {
		kind = name
	}
	for _, preset := range provider.Presets() {
		if known, err := url.Parse(preset.BaseURL); err == nil && known.Host == u.Host {
			kind = preset.Type
		}
	}
	outside := func(endpoint string) bool { return endpoint != "/v1" && !strings.HasPrefix(endpoint, "/v1/") }
	switch {
	case u.Path != "":
		w.note("base_url", "its path is kept; the predecessor left it out")
	case kind != "gemini" && kind != "azure_openai" && !slices.ContainsFunc(api.Endpoints, outside):
		base += "/v1"
	}
	return base, kind
}

// endpoints writes prefixes as paths and what is below them. Gemini's end in an
// action, below which there is nothing.
func endpoints(prefixes []string) (list []string) {
	for _, prefix := range prefixes {
		path := strings.TrimRight(prefix, "/")
		if path != "" && path == prefix {
			list = append(list, path)
		}
		if last := path[strings.LastIndexByte(path, '/')+1:]; !strings.Contains(last, ":") {
			list = append(list, path+"/*")
		}
	}
	return unique(list)
}

// methods leaves out OPTIONS, which is a browser's question to the proxy.
func (w *caddyfileWriter) methods(methods []string) (list []string) {
	for _, method := range methods {
		if method = strings.ToUpper(method); method == http.MethodOptions {
			w.note("allowed_methods", "OPTIONS is not passed on to providers and was left out")
			continue
		}
		list = append(list, method)
	}
	if len(list) == 0 {
		w.fail("allowed_methods", errors.New("without OPTIONS there is none left"))
	}
	return unique(list)
}

func (w *caddyfileWriter) timeouts(api *API) {
	if d := w.duration("timeouts.response_header", api.Timeouts.ResponseHeader); d > 0 {
		w.option("response_header_timeout", d.String())
	}
	switch n := api.Connection.MaxIdlePerHost; {
	case n < 0:
		w.fail("connection.max_idle_conns_per_host", errors.New("it is negative"))
	case n > 0:
		w.option("max_idle_conns_per_host", strconv.Itoa(n))
	}
	for _, v := range []struct{ key, value, why string }{
		{"timeouts.request", api.Timeouts.Request, "answers may last as long as they go on: idle_timeout bounds their silences"},
		{"timeouts.idle_connection", api.Timeouts.IdleConnection, "unused connections end by themselves"},
		{"timeouts.flush_interval", api.Timeouts.FlushInterval, "streams are passed on at once"},
	} {
		if w.duration(v.key, v.value) > 0 {
			w.note(v.key, "has no counterpart: "+v.why)
		}
	}
	if api.Connection.MaxIdle != 0 {
		w.note("connection.max_idle_conns", "has no counterpart: max_idle_conns_per_host bounds unused connections")
	}
}

func (w *caddyfileWriter) duration(key, text string) time.Duration {
	if text == "" || text == "0" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		w.fail(key, errors.New("expected a duration with a unit, such as 30s"))
		return 0
	}
	return d
}

// list writes an option whose entries pass check, unless there are none.
func (w *caddyfileWriter) list(option, key string, entries []string, check func(string) error) {
	for _, entry := range entries {
		if err := check(entry); err != nil {
			w.fail(key, err)
		}
	}
	if len(entries) > 0 {
		w.option(option, entries...)
	}
}

func (w *caddyfileWriter) option(name string, words ...string) {
	line := name
	for _, word := range words {
		quoted, err := quote(word)
		if err != nil {
			w.fail(name, err)
		}
		line += " " + quoted
	}
	w.line(1, line)
}

// quote writes a word of a Caddyfile. What a Caddyfile would replace, or read as
// something else, is refused.
func quote(word string) (string, error) {
	switch {
	case strings.ContainsAny(word, "{}\"`\\"), strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return `""`, fmt.Errorf("%q holds characters that have a meaning in a Caddyfile", word)
	case word == "", strings.ContainsAny(word, " #<"), word == "import":
		return `"` + word + `"`, nil
	}
	return word, nil
}

func (w *caddyfileWriter) line(indent int, text string) {
	w.b.WriteString(strings.Repeat("\t", indent) + text + "\n")
}

func (w *caddyfileWriter) key(key string) string {
	return strings.TrimSuffix("apis."+w.name+"."+key, ".")
}

func (w *caddyfileWriter) note(key, text string) {
	w.notes = append(w.notes, w.key(key)+": "+text)
}

func (w *caddyfileWriter) fail(key string, err error) {
	w.errs = append(w.errs, fmt.Errorf("%s: %w", w.key(key), err))
}

func canonical(headers []string) (list []string) {
	for _, h := range headers {
		list = append(list, http.CanonicalHeaderKey(h))
	}
	return unique(list)
}

func checkHeader(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	}) {
		return fmt.Errorf("%q is not the name of a header", name)
	}
	return nil
}

// unique keeps the first of equal entries.
func unique(list []string) []string {
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(entry string) bool {
		again := seen[entry]
		seen[entry] = true
		return again
	})
}
