// Package provider knows how each LLM API is addressed, how it wants its
// credential, what it serves, and in which dialect it speaks of errors.
package provider

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// Defaults of the options that are times. ResponseHeaderTimeout is 0: an answer
// may take as long as its model thinks.
const (
	DefaultDialTimeout         = 10 * time.Second
	DefaultIdleTimeout         = 5 * time.Minute
	DefaultMaxIdleConnsPerHost = 256
)

// reservedNames cannot name a provider: they are first segments of our own paths.
var reservedNames = []string{"v1", "manage", "admin", "health", "live", "ready"}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName reports why a name cannot be a provider's.
func CheckName(name string) error {
	if slices.Contains(reservedNames, name) {
		return fmt.Errorf("%q cannot name a provider: it is a path of the proxy itself", name)
	}
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%q cannot name a provider: expected letters, digits, '.', '_' or '-', at most 64", name)
	}
	return nil
}

// Config is a provider as an operator describes it; zero fields take the
// preset's value.
type Config struct {
	Name                  string
	Type                  string // default: the name
	BaseURL               string
	APIKey                secret.Value // shared key for projects without their own
	Auth                  *Auth
	Endpoints             []string
	Methods               []string
	Params                map[string][]string // allowed globs by top-level member of the JSON body
	Origins               []string
	RequiredHeaders       []string
	DialTimeout           time.Duration
	ResponseHeaderTimeout time.Duration // 0: none
	IdleTimeout           time.Duration // longest silence in a response body; negative: no limit
	MaxIdleConnsPerHost   int
}

// Provider is a configured provider, ready for requests. It is immutable.
type Provider struct {
	Name                  string
	Type                  string
	Auth                  Auth
	Params                map[string][]string
	RequiredHeaders       []string
	APIKey                secret.Value
	DialTimeout           time.Duration
	ResponseHeaderTimeout time.Duration
	IdleTimeout           time.Duration // 0: no limit
	MaxIdleConnsPerHost   int
	UsageOnRequest        bool // see [Preset]
	CompletionTokens      bool // see [Preset]
	KeyRefusals           []string
	Keyless               bool // works without a credential
	Endpoints             []string
	Methods               []string
	Allow                 string // Methods as an Allow header

	origins       []string
	requireOrigin bool
	dialect       apierr.Dialect
	base          *url.URL
	basePath      string // without a trailing slash
	version       string // the base path's last segment when it is a version: "v1"
	overlap       string
	origin        string
	modelPosts    []string
}

// New checks a configuration and completes it from its preset. Errors begin
// with the option's name.
func New(c Config) (*Provider, error) {
	if err := CheckName(c.Name); err != nil {
		return nil, err
	}
	kind := c.Type
	if kind == "" {
		kind = c.Name
	}
	preset, ok := PresetFor(kind)
	if !ok {
		return nil, fmt.Errorf("type: %q is not a preset; expected one of %s", kind, strings.Join(presetTypes(), ", "))
	}
	p := &Provider{
		Name: c.Name, Type: kind, Auth: preset.Auth, Params: c.Params, APIKey: c.APIKey,
		DialTimeout: c.DialTimeout, ResponseHeaderTimeout: c.ResponseHeaderTimeout, IdleTimeout: c.IdleTimeout,
		MaxIdleConnsPerHost: c.MaxIdleConnsPerHost, KeyRefusals: preset.KeyRefusals, Keyless: preset.Keyless,
		Endpoints: preset.Endpoints, Methods: preset.Methods, dialect: preset.Dialect, overlap: preset.RootOverlap,
		modelPosts: preset.ModelPosts, UsageOnRequest: preset.UsageOnRequest, CompletionTokens: preset.CompletionTokens,
	}
	if c.Auth != nil {
		p.Auth = *c.Auth
	}
	if err := p.checkAuth(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if err := p.setBase(c.BaseURL, preset); err != nil {
		return nil, fmt.Errorf("base_url: %w", err)
	}
	p.origin = p.Name + " " + p.BaseURL()
	if len(c.Endpoints) > 0 {
		p.Endpoints = c.Endpoints
	}
	for _, e := range p.Endpoints {
		if err := project.CheckEndpoint(e); err != nil {
			return nil, fmt.Errorf("allow_endpoints: %w", err)
		}
	}
	if len(c.Methods) > 0 {
		p.Methods = c.Methods
	}
	for _, m := range p.Methods {
		if err := CheckMethod(m); err != nil {
			return nil, fmt.Errorf("allow_methods: %w", err)
		}
	}
	p.Allow = strings.Join(p.Methods, ", ")
	for _, o := range c.Origins {
		if err := CheckOrigin(o); err != nil {
			return nil, fmt.Errorf("allow_origins: %w", err)
		}
		p.origins = append(p.origins, strings.ToLower(o))
	}
	for _, h := range c.RequiredHeaders {
		if !validToken(h) {
			return nil, fmt.Errorf("require_headers: %q is not a header name", h)
		}
		if http.CanonicalHeaderKey(h) == "Origin" {
			p.requireOrigin = true
			continue
		}
		p.RequiredHeaders = append(p.RequiredHeaders, http.CanonicalHeaderKey(h))
	}
	if err := p.setTimes(); err != nil {
		return nil, err
	}
	return p, nil
}

// checkAuth puts the credential's header name into canonical form.
func (p *Provider) checkAuth() error {
	switch p.Auth.Scheme {
	case AuthBearer:
	case AuthHeader:
		if !validToken(p.Auth.Name) {
			return fmt.Errorf("%q is not a header name", p.Auth.Name)
		}
		p.Auth.Name = http.CanonicalHeaderKey(p.Auth.Name)
	case AuthQuery:
		if p.Auth.Name == "" {
			return fmt.Errorf("query needs the name of a parameter, such as: query key")
		}
	default:
		return fmt.Errorf("expected bearer, header <name> or query <name>")
	}
	return nil
}

func (p *Provider) setTimes() error {
	switch {
	case p.DialTimeout < 0:
		return fmt.Errorf("dial_timeout: must not be negative")
	case p.ResponseHeaderTimeout < 0:
		return fmt.Errorf("response_header_timeout: must not be negative")
	case p.MaxIdleConnsPerHost < 0:
		return fmt.Errorf("max_idle_conns_per_host: must not be negative")
	}
	if p.DialTimeout == 0 {
		p.DialTimeout = DefaultDialTimeout
	}
	switch {
	case p.IdleTimeout == 0:
		p.IdleTimeout = DefaultIdleTimeout
	case p.IdleTimeout < 0:
		p.IdleTimeout = 0
	}
	if p.MaxIdleConnsPerHost == 0 {
		p.MaxIdleConnsPerHost = DefaultMaxIdleConnsPerHost
	}
	return nil
}

func (p *Provider) setBase(text string, preset Preset) error {
	if text == "" {
		text = preset.BaseURL
	}
	if text == "" {
		return fmt.Errorf("is required for type %s, such as https://<resource>.openai.azure.com/openai", p.Type)
	}
	base, err := parseBase(text)
	if err != nil {
		return err
	}
	if path := base.EscapedPath(); path != "" {
		canonical, _ := CanonicalPath(path) // parseBase has checked it
		p.basePath = strings.TrimRight(canonical, "/")
	}
	if p.basePath == "" && p.overlap != "" {
		p.basePath = "/" + p.overlap // operators often give the bare resource
	}
	if last := p.basePath[strings.LastIndexByte(p.basePath, '/')+1:]; isVersion(last) {
		p.version = last
	}
	p.base = &url.URL{Scheme: base.Scheme, Host: base.Host}
	return nil
}

// CheckBaseURL reports why a text cannot be a provider's base URL. It never
// repeats the text, which may hold a credential by mistake.
func CheckBaseURL(text string) error {
	_, err := parseBase(text)
	return err
}

func parseBase(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	switch {
	case err != nil || base.Hostname() == "" || (base.Scheme != "https" && base.Scheme != "http"):
		return nil, fmt.Errorf("expected an absolute URL such as https://api.example.com/v1")
	case base.User != nil:
		return nil, fmt.Errorf("must not hold a user or password; use api_key and auth")
	case base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("must not hold a query or fragment")
	}
	if path := base.EscapedPath(); path != "" {
		if _, ok := CanonicalPath(path); !ok {
			return nil, fmt.Errorf("its path must be plain, without dot segments, ';' or escaped slashes")
		}
	}
	return base, nil
}

// CheckMethod reports why a method cannot be forwarded.
func CheckMethod(m string) error {
	if strings.ToUpper(m) != m || !validToken(m) || m == http.MethodConnect || m == http.MethodTrace {
		return fmt.Errorf("%q is not a method that can be forwarded; write it in capitals, such as GET or POST", m)
	}
	return nil
}

// CheckOrigin reports why a text is not a web origin (RFC 6454).
func CheckOrigin(o string) error {
	u, err := url.Parse(o)
	if o != "null" && (err != nil || u.Scheme == "" || u.Host == "" || !strings.EqualFold(o, u.Scheme+"://"+u.Host)) {
		return fmt.Errorf("%q is not an origin such as https://app.example.com", o)
	}
	return nil
}

// Host is the authority that requests are sent to.
func (p *Provider) Host() string { return p.base.Host }

// Scheme is "https" or "http".
func (p *Provider) Scheme() string { return p.base.Scheme }

// BaseURL is where requests go, path included.
func (p *Provider) BaseURL() string { return p.base.String() + p.basePath }

// Origin tells this provider from others, and from itself at another address.
func (p *Provider) Origin() string { return p.origin }

// CheckOrigin decides on the request's Origin header values.
func (p *Provider) CheckOrigin(values []string) *apierr.Error {
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		if p.requireOrigin {
			return apierr.New(http.StatusBadRequest, apierr.OriginRequired, "an Origin header is required")
		}
		return nil
	}
	if len(p.origins) > 0 && (len(values) > 1 || !slices.Contains(p.origins, strings.ToLower(values[0]))) {
		return apierr.New(http.StatusForbidden, apierr.OriginNotAllowed, "this origin may not use this endpoint")
	}
	return nil
}

func presetTypes() []string {
	var types []string
	for _, p := range Presets() {
		types = append(types, p.Type)
	}
	return types
}

func validToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
