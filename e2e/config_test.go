package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

// badConfig is one mistake in a configuration.
type badConfig struct {
	name    string
	app     string   // within llm_proxy { … }
	openai  string   // within provider openai { … }
	handler string   // within the directive
	admin   string   // after llm_proxy_admin
	says    []string // the error must
}

// atLine marks mistakes that parsing finds: the error names file and line.
const atLine = "Caddyfile:"

var badConfigs = []badConfig{
	{name: "unknown option", app: "databse sqlite x", says: []string{atLine, "databse", "database"}},
	{name: "unknown provider option", openai: "base_ulr x", says: []string{atLine, "base_ulr", "base_url"}},
	{name: "unknown handler option", handler: "max_bodi 1MiB", says: []string{atLine, "max_bodi", "max_body"}},
	{name: "argument of the directive", app: "", handler: "provider", says: []string{atLine, "provider"}},
	{name: "admin option", admin: "{\nui off\n}", says: []string{atLine, "ui"}},
	{name: "duration", openai: "dial_timeout soon", says: []string{atLine, "dial_timeout", "10s"}},
	{name: "negative duration", openai: "idle_timeout -1s", says: []string{atLine, "idle_timeout"}},
	{name: "size", handler: "max_body lots", says: []string{atLine, "32MiB"}},
	{name: "zero size", handler: "max_upload 0", says: []string{atLine, "positive"}},
	{name: "number", openai: "max_idle_conns_per_host few", says: []string{atLine, "max_idle_conns_per_host"}},
	{name: "switch", handler: "expose_headers yes", says: []string{atLine, "on or off"}},
	{name: "URL", app: "provider groq {\nbase_url api.example.com\n}", says: []string{atLine, "base_url", "https://"}},
	{name: "URL scheme", app: "provider groq {\nbase_url ftp://api.example.com\n}", says: []string{atLine, "base_url", "https://"}},
	{name: "URL with a query", app: "provider groq {\nbase_url https://api.example.com/?key=SECRET-x9y8z7\n}", says: []string{atLine, "base_url", "query"}},
	{name: "URL with a password", app: "provider groq {\nbase_url https://u:SECRET-x9y8z7@api.example.com\n}", says: []string{atLine, "base_url", "api_key"}},
	{name: "URL from the environment", app: "provider groq {\nbase_url {env.BAD_URL}\n}", says: []string{"llm_proxy > provider groq > base_url", "https://"}},
	{name: "unknown type", app: "provider mine {\ntype opanai\n}", says: []string{atLine, "opanai", "openai"}},
	{name: "no type", app: "provider mine {\nbase_url https://api.example.com\n}", says: []string{atLine, "mine", "type"}},
	{name: "type from the environment", app: "provider mine {\ntype {env.BAD_URL}\n}", says: []string{"llm_proxy > provider mine > type", "env.BAD_URL", "openai"}},
	{name: "method from the environment", openai: "allow_methods GET {env.BAD_URL}", says: []string{"llm_proxy > provider openai > allow_methods", "env.BAD_URL"}},
	{name: "origin from the environment", openai: "allow_origins {env.BAD_URL}", says: []string{"llm_proxy > provider openai > allow_origins", "env.BAD_URL"}},
	{name: "endpoint from the environment", openai: "allow_endpoints {env.BAD_URL}", says: []string{"llm_proxy > provider openai > allow_endpoints"}},
	{name: "header from the environment", openai: "require_headers {env.BROKEN_KEY}", says: []string{"llm_proxy > provider openai > require_headers"}},
	{name: "reserved name", app: "provider manage {\ntype openai\n}", says: []string{atLine, "manage"}},
	{name: "reserved name v1", app: "provider v1 {\ntype openai\n}", says: []string{atLine, "v1"}},
	{name: "odd name", app: "provider a/b {\ntype openai\n}", says: []string{atLine, "a/b"}},
	{name: "provider twice", app: "provider groq\nprovider groq", says: []string{atLine, "groq", "twice"}},
	{name: "option twice", openai: "idle_timeout 1s\nidle_timeout 2s", says: []string{atLine, "idle_timeout", "twice"}},
	{name: "param twice", openai: "allow_param model a\nallow_param model b", says: []string{atLine, "model", "twice"}},
	{name: "handler option twice", handler: "max_body 1MiB\nmax_body 2MiB", says: []string{atLine, "max_body", "twice"}},
	{name: "method", openai: "allow_methods get", says: []string{atLine, "allow_methods", "GET"}},
	{name: "tunnel method", openai: "allow_methods CONNECT", says: []string{atLine, "allow_methods"}},
	{name: "origin", openai: "allow_origins app.example.com", says: []string{atLine, "allow_origins", "https://app.example.com"}},
	{name: "endpoint", openai: "allow_endpoints v1/models", says: []string{atLine, "allow_endpoints", "/v1"}},
	{name: "endpoint glob", openai: "allow_endpoints /v1/*/models", says: []string{atLine, "allow_endpoints"}},
	{name: "header", openai: "require_headers X:Team", says: []string{atLine, "require_headers"}},
	{name: "auth", openai: "auth basic SECRET-x9y8z7", says: []string{atLine, "auth", "bearer"}},
	{name: "param without globs", openai: "allow_param model", says: []string{atLine, "allow_param", "glob"}},
	{name: "two values", openai: "api_key SECRET-x9y8z7 more", says: []string{atLine, "api_key", "one value"}},
	{name: "no value", openai: "api_key", says: []string{atLine, "api_key"}},
	{name: "azure without URL", app: "provider azure_openai", says: []string{atLine, "azure_openai", "base_url", "openai.azure.com"}},
	{name: "short key", app: "encryption_key U0VDUkVULXg5eTh6Nw==", says: []string{atLine, "32"}},
	{name: "key that is not base64", app: "encryption_key SECRET-x9y8z7", says: []string{atLine, "base64"}},
	{name: "short key from the environment", app: "encryption_key {env.SHORT_KEY}", says: []string{"llm_proxy > encryption_key", "32"}},
	{name: "missing variable", openai: "api_key {env.NONE_SUCH}", says: []string{"llm_proxy > provider openai > api_key", "env.NONE_SUCH"}},
	{name: "missing file", openai: "api_key {file./none/such}", says: []string{"llm_proxy > provider openai > api_key", "/none/such"}},
	{name: "key with a line break", openai: "api_key {env.BROKEN_KEY}", says: []string{"llm_proxy > provider openai > api_key", "header"}},
	{name: "unknown provider", handler: "provider nobody", says: []string{"nobody", "openai"}},
	{name: "empty block for database", app: "", openai: "", handler: "forward_headers", says: []string{atLine, "forward_headers"}},
}

// secretsOfMistakes are what no error may repeat, whatever the mistake is.
var secretsOfMistakes = []string{"SECRET-x9y8z7", "U0VDUkVULXg5eTh6Nw", "SECRETENV"}

func (c badConfig) site(sim *provider) site {
	s := against(sim)
	s.database = ownSQLite // the mistakes are in what PostgreSQL needs as well
	s.app, s.handler = c.app, c.handler
	s.options = map[string]string{"openai": c.openai}
	s.routes = "llm_proxy_admin " + c.admin + "\n\tllm_proxy {\n\t" + c.handler + "\n\t}"
	return s
}

var mistakenEnv = []string{"BAD_URL=SECRETENV-not-a-url", "SHORT_KEY=U0VDUkVULXg5eTh6Nw==", "BROKEN_KEY=SECRETENV one\ntwo"}

// TestBadConfigs loads every mistake into a running process, which must refuse
// it in words that help and go on serving.
func TestBadConfigs(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	good := against(sim)
	good.database = ownSQLite
	p := start(t, good, mistakenEnv...)
	a := p.account(t)
	for _, c := range badConfigs {
		t.Run(c.name, func(t *testing.T) {
			err := p.load(c.site(sim))
			if err == nil {
				t.Error("loaded")
				p.reload(against(sim))
				return
			}
			c.check(t, err.Error())
		})
	}
	for _, c := range []badConfig{
		{name: "database kind", app: "database mysql x", says: []string{atLine, "mysql", "sqlite"}},
		{name: "database without kind", app: "database", says: []string{atLine, "sqlite"}},
		{name: "database twice", app: "database sqlite a\ndatabase sqlite b", says: []string{atLine, "database", "twice"}},
		{name: "block twice", app: "database sqlite a\n}\nllm_proxy {\n", says: []string{atLine, "twice"}},
		{name: "management token twice", app: "management_token SECRET-x9y8z7\nmanagement_token x", says: []string{atLine, "management_token", "twice"}},
		{name: "empty management token", app: "management_token \"\"", says: []string{atLine, "management_token"}},
		{name: "missing management token", app: "management_token {env.NONE_SUCH}", says: []string{"llm_proxy > management_token", "env.NONE_SUCH"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := p.load(site{caddyfile: "{\n\tadmin 127.0.0.1:{admin}\n\tllm_proxy {\n" + c.app + "\n\t}\n}\nhttp://127.0.0.1:{https} {\n\tllm_proxy\n}\n"})
			if err == nil {
				t.Fatal("loaded")
			}
			c.check(t, err.Error())
		})
	}
	if got := p.do(t, chat(a.token, "m", false)); got.status != 200 {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
	for _, secret := range secretsOfMistakes {
		if p.output.contains(secret) {
			t.Errorf("the log tells %s", secret)
		}
	}
}

func (c badConfig) check(t *testing.T, message string) {
	t.Helper()
	for _, want := range c.says {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not say %q", message, want)
		}
	}
	for _, secret := range secretsOfMistakes {
		if strings.Contains(message, secret) {
			t.Errorf("%q tells %s", message, secret)
		}
	}
}

// TestCommandsRefuse has the commands that people run before a reload find a
// few mistakes of each kind, and leave no traces.
func TestCommandsRefuse(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	for _, c := range []struct {
		command, mistake string
		ok               bool
	}{
		{"adapt", "unknown option", false}, {"adapt", "URL with a password", false}, {"adapt", "missing variable", true},
		{"validate", "short key", false}, {"validate", "missing variable", false}, {"validate", "", true},
	} {
		t.Run(c.command+" "+c.mistake, func(t *testing.T) {
			t.Parallel()
			var bad badConfig
			for _, candidate := range badConfigs {
				if candidate.name == c.mistake {
					bad = candidate
				}
			}
			p := &proxy{t: t, dir: t.TempDir(), port: testnet.Port(t), adminPort: testnet.Port(t)}
			p.write(bad.site(sim))
			cmd := p.command(c.command, "--config", p.caddyfile(), "--adapter", "caddyfile")
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok {
				t.Fatalf("%v: %s", err, out)
			}
			if !c.ok {
				bad.check(t, strings.ReplaceAll(string(out), `\u003e`, ">"))
			}
			if _, err := os.Stat(filepath.Join(p.dir, "data")); !os.IsNotExist(err) {
				t.Errorf("it made a database: %v", err)
			}
		})
	}
}
