package cli

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

// healthy is an installation with nothing wrong.
func healthy(t *testing.T) Patient {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "llm-proxy.db")
	if err := openStore(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	p := Patient{
		ConfigName: "Caddyfile", Config: []byte(`{}`), Database: &Database{Driver: "sqlite", DSN: path},
		Key:       SecretSource{File: filepath.Join(dir, "encryption-key")},
		Token:     SecretSource{File: filepath.Join(dir, "management-token")},
		Providers: []Endpoint{{Name: "openai", BaseURL: "https://api.openai.com/v1"}},
	}
	for _, file := range []string{p.Key.File, p.Token.File} {
		if err := os.WriteFile(file, []byte("CANARY"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func fakeProbes() probes {
	return probes{
		client: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("away") })},
		dial:   func(context.Context, *url.URL) (string, error) { return "reachable", nil },
		now:    time.Now,
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// expectCheck finds a check and compares it.
func expectCheck(t *testing.T, checks []Check, name, status string, words ...string) {
	t.Helper()
	at := slices.IndexFunc(checks, func(c Check) bool { return c.Name == name })
	if at < 0 {
		t.Fatalf("no check %s in %v", name, checks)
	}
	if checks[at].Status != status {
		t.Errorf("%s: %v, want %s", name, checks[at], status)
	}
	expectText(t, checks[at].Detail, words...)
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Patient, *probes)
		check  string
		status string
		words  string
	}{
		"config":             {func(p *Patient, _ *probes) {}, "config", OK, "Caddyfile is valid"},
		"database":           {func(p *Patient, _ *probes) {}, "database", OK, "at version"},
		"key":                {func(p *Patient, _ *probes) {}, "encryption-key", OK, "encryption-key"},
		"token":              {func(p *Patient, _ *probes) {}, "management-token", OK, "management-token"},
		"provider":           {func(p *Patient, _ *probes) {}, "provider:openai", OK, "api.openai.com: reachable"},
		"literals":           {func(p *Patient, _ *probes) {}, "literal-secrets", OK, "no secret"},
		"clock skipped":      {func(p *Patient, _ *probes) {}, "clock", OK, "skipped"},
		"no config":          {func(p *Patient, _ *probes) { p.ConfigName = "" }, "config", Warn, "--config"},
		"bad config":         {func(p *Patient, _ *probes) { p.ConfigErr = errors.New("line 3:\nwrong") }, "config", Fail, "line 3: wrong"},
		"unreadable config":  {func(p *Patient, _ *probes) { p.Config, p.ConfigErr = nil, errors.New("gone") }, "config", Fail, "gone"},
		"no database":        {func(p *Patient, _ *probes) { p.Database.DSN += "x" }, "database", Fail, "does not exist"},
		"unknown database":   {func(p *Patient, _ *probes) { p.Database = nil }, "database", Fail, "does not tell"},
		"bad database":       {func(p *Patient, _ *probes) { p.Database, p.DatabaseErr = nil, errors.New("no such driver") }, "database", Fail, "no such driver"},
		"not ours":           {func(p *Patient, _ *probes) { write(p.Database.DSN, strings.Repeat("x", 4096)) }, "database", Fail, "not a SQLite database"},
		"pending":            {func(p *Patient, _ *probes) { write(p.Database.DSN, "") }, "database", Fail, "pending"},
		"key lost":           {func(p *Patient, _ *probes) { os.Remove(p.Key.File) }, "encryption-key", Fail, "put the file back"},
		"key not made yet":   {func(p *Patient, _ *probes) { os.Remove(p.Key.File); p.Database.DSN += "x" }, "encryption-key", Warn, "first start"},
		"key empty":          {func(p *Patient, _ *probes) { write(p.Key.File, "") }, "encryption-key", Fail, "is empty"},
		"key readable":       {func(p *Patient, _ *probes) { os.Chmod(p.Key.File, 0o640) }, "encryption-key", Fail, "mode 0640"},
		"key is a directory": {func(p *Patient, _ *probes) { p.Key.File = filepath.Dir(p.Key.File) }, "encryption-key", Fail, "not a file"},
		"key unresolved":     {func(p *Patient, _ *probes) { p.Key.Err = errors.New("{env.KEY} is empty") }, "encryption-key", Fail, "{env.KEY}"},
		"key configured":     {func(p *Patient, _ *probes) { p.Key.Given = "encryption_key" }, "encryption-key", OK, "given by encryption_key"},
		"key from nowhere":   {func(p *Patient, _ *probes) { p.Key = SecretSource{} }, "encryption-key", Fail, "gives none"},
		"token readable":     {func(p *Patient, _ *probes) { os.Chmod(p.Token.File, 0o604) }, "management-token", Fail, "chmod 600"},
		"token lost":         {func(p *Patient, _ *probes) { os.Remove(p.Token.File) }, "management-token", Fail, "next start"},
		"token refused":      {func(p *Patient, _ *probes) { p.Token.Bad = "looks like a client token" }, "management-token", Fail, "client token"},
		"provider away":      {func(p *Patient, q *probes) { q.dial = unreachable }, "provider:openai", Fail, "cannot be reached: no route"},
		"provider undefined": {func(p *Patient, _ *probes) { p.Providers[0].Err = errors.New("base_url: is required") }, "provider:openai", Fail, "base_url"},
		"provider's URL":     {func(p *Patient, _ *probes) { p.Providers[0].BaseURL = "CANARY" }, "provider:openai", Fail, "not a URL"},
		"local provider away": {func(p *Patient, q *probes) {
			q.dial, p.Providers[0].BaseURL = unreachable, "http://127.0.0.1:9191/v1"
		}, "provider:openai", Warn, "start it"},
		"provider in clear": {func(p *Patient, _ *probes) { p.Providers[0].BaseURL = "http://10.0.0.1" }, "provider:openai", OK, "without TLS"},
		"clock fast":        {func(p *Patient, q *probes) { q.client = clockAt(time.Now().Add(-10 * time.Second)) }, "clock", Warn, "ahead of api.openai.com"},
		"clock slow":        {func(p *Patient, q *probes) { q.client = clockAt(time.Now().Add(10 * time.Second)) }, "clock", Warn, "behind api.openai.com"},
		"clock right":       {func(p *Patient, q *probes) { q.client = clockAt(time.Now()) }, "clock", OK, "agrees"},
		"literal": {func(p *Patient, _ *probes) {
			p.Config = []byte(`{"apps":{"llm_proxy":{"providers":{"openai":{"api_key":"CANARY"}}}}}`)
		}, "literal-secrets", Warn, "llm_proxy > provider openai > api_key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, q := healthy(t), fakeProbes()
			c.change(&p, &q)
			before := listing(t, filepath.Dir(p.Token.File))
			checks := examine(t.Context(), p, q)
			var out buffer
			err := Report(Output{Out: &out, Err: &out}, checks)
			expectCheck(t, checks, c.check, c.status, c.words)
			if failed := slices.ContainsFunc(checks, func(c Check) bool { return c.Status == Fail }); failed != (err != nil) {
				t.Errorf("error %v with %s", err, out.String())
			}
			expectText(t, out.String(), c.status, c.check)
			if got := strings.Count(out.String(), "\n"); got != len(checks) {
				t.Errorf("%d lines for %d checks:\n%s", got, len(checks), out.String())
			}
			if after := listing(t, filepath.Dir(p.Token.File)); after != before {
				t.Errorf("the doctor changed the directory from %s to %s", before, after)
			}
		})
	}
}

func write(path, text string) { _ = os.WriteFile(path, []byte(text), 0o600) }

func unreachable(context.Context, *url.URL) (string, error) { return "", errors.New("no route") }

// clockAt is a provider that thinks it is then.
func clockAt(then time.Time) *http.Client {
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodHead || r.URL.Path != "/" || r.Header.Get("Authorization") != "" {
			return nil, errors.New("unexpected request")
		}
		return &http.Response{StatusCode: 404, Header: http.Header{"Date": {then.UTC().Format(http.TimeFormat)}}, Body: http.NoBody, Request: r}, nil
	})}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %d %s; ", e.Name(), info.Mode(), info.Size(), info.ModTime())
	}
	return b.String()
}

func TestReportAsJSON(t *testing.T) {
	t.Parallel()
	var out buffer
	err := Report(Output{Out: &out, Err: &out, JSON: true}, []Check{{OK, "a", "x"}, {Fail, "b", "y\nz"}, {Fail, "c", ""}})
	expectError(t, err, false, "2 checks failed")
	if got := strings.TrimSpace(out.String()); got != `{"ok":false,"checks":[{"status":"ok","name":"a","detail":"x"},{"status":"fail","name":"b","detail":"y z"},{"status":"fail","name":"c","detail":""}]}` {
		t.Errorf("got %s", got)
	}
}

func TestDialer(t *testing.T) {
	t.Parallel()
	secure := newTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	root := filepath.Join(t.TempDir(), "root.crt")
	write(root, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))

	try := func(trust Trust, address string) error {
		p, err := newProbes(trust)
		if err != nil {
			t.Fatal(err)
		}
		target, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.dial(t.Context(), target)
		return err
	}
	if err := errors.Join(try(Trust{CACert: root}, secure.URL), try(Trust{}, plain.URL)); err != nil {
		t.Error(err)
	}
	expectError(t, try(Trust{}, secure.URL), false, "certificate")
	expectError(t, try(Trust{}, "http://"+testnet.Refusing(t)), false, "refused")

	checks, err := Examine(t.Context(), Patient{ConfigName: "x", Config: []byte(`{}`), Providers: []Endpoint{{Name: "p", BaseURL: secure.URL}}}, Trust{CACert: root})
	if err != nil {
		t.Fatal(err)
	}
	expectCheck(t, checks, "provider:p", OK, "reachable")
	expectCheck(t, checks, "clock", OK, "agrees with 127.0.0.1")
	_, err = Examine(t.Context(), Patient{}, Trust{CACert: root + "x"})
	expectError(t, err, false, "--cacert")
}

const redacted = `{"format":"filter","wrap":{"format":"json"},"fields":{
	"request>headers>X-Api-Key":{"filter":"delete"},"request>headers>Api-Key":{"filter":"delete"},
	"request>headers>X-Goog-Api-Key":{"filter":"delete"},"request>headers>Sec-Websocket-Protocol":{"filter":"delete"},
	"request>uri":{"filter":"query","actions":[{"parameter":"key","type":"delete"}]}}}`

func TestAccessLogs(t *testing.T) {
	t.Parallel()
	const route = `"routes":[{"handle":[{"handler":"subroute","routes":[{"handle":[{"handler":"llm_proxy"}]}]}]}]`
	site := `"srv0":{` + route + `,"logs":{"default_logger_name":"log0"}}`
	own := func(encoder string) string {
		return `{"default":{"exclude":["http.log.access.log0"]},"log0":{"include":["http.log.access.log0"],"encoder":` + encoder + `}}`
	}
	for name, c := range map[string]struct {
		servers, logs string
		status        string
		words         []string
	}{
		"no access log":      {`"srv0":{` + route + `}`, `{}`, OK, []string{"no access log"}},
		"redacted":           {site, own(redacted), OK, []string{"are redacted"}},
		"redacted inside":    {site, own(`{"format":"append","fields":{},"wrap":` + redacted + `}`), OK, nil},
		"whole headers":      {site, own(`{"format":"filter","fields":{"request>headers":{"filter":"delete"},"request>uri":{"filter":"replace","value":"x"}}}`), OK, nil},
		"regexp":             {site, own(strings.Replace(redacted, `{"filter":"query","actions":[{"parameter":"key","type":"delete"}]}`, `{"filter":"regexp","regexp":"key=[^&]*"}`, 1)), OK, nil},
		"several regexps":    {site, own(strings.Replace(redacted, `{"filter":"query","actions":[{"parameter":"key","type":"delete"}]}`, `{"filter":"multi_regexp","operations":[{"regexp":"a"},{"regexp":"key="}]}`, 1)), OK, nil},
		"discarded":          {site, `{"default":{"exclude":["http.log.access.log0"]},"log0":{"include":["http.log.access.log0"],"writer":{"output":"discard"}}}`, OK, nil},
		"plain":              {site, own(`{"format":"json"}`), Warn, []string{"log0", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Sec-Websocket-Protocol", "?key=", "llm_proxy_log", "in its site"}},
		"default log":        {`"srv0":{` + route + `,"logs":{}}`, `{}`, Warn, []string{"log default", "X-Api-Key", "in the global options"}},
		"no logging at all":  {`"srv0":{` + route + `,"logs":{}}`, `null`, Warn, []string{"log default"}},
		"default redacted":   {`"srv0":{` + route + `,"logs":{}}`, `{"default":{"encoder":` + redacted + `}}`, OK, nil},
		"header forgotten":   {site, own(strings.Replace(redacted, "X-Goog-Api-Key", "X-Other", 1)), Warn, []string{"(X-Goog-Api-Key)"}},
		"key forgotten":      {site, own(strings.Replace(redacted, `"parameter":"key"`, `"parameter":"k"`, 1)), Warn, []string{"(?key=)"}},
		"not a filter":       {site, own(strings.Replace(redacted, `"format":"filter"`, `"format":"append"`, 1)), Warn, []string{"X-Api-Key"}},
		"unmapped hosts":     {`"srv0":{` + route + `,"logs":{"logger_names":{"a.example":["log0"]}}}`, own(redacted), Warn, []string{"log default"}},
		"unmapped skipped":   {`"srv0":{` + route + `,"logs":{"skip_unmapped_hosts":true,"logger_names":{"a.example":["log0"],"b.example":"log0"}}}`, own(redacted), OK, nil},
		"credentials logged": {`"srv0":{` + route + `,"logs":{"default_logger_name":"log0","should_log_credentials":true}}`, own(redacted), Warn, []string{"log_credentials"}},
		"log_name":           {`"srv0":{"routes":[{"handle":[{"handler":"vars","access_logger_names":["other"]},{"handler":"llm_proxy_admin"}]}],"logs":{"default_logger_name":"log0"}}`, own(redacted), Warn, []string{"log default"}},
		"other site":         {`"srv0":{"routes":[{"handle":[{"handler":"file_server"}]}],"logs":{}},"srv1":{` + route + `}`, `{}`, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := `{"logging":{"logs":` + c.logs + `},"apps":{"http":{"servers":{` + c.servers + `}}}}`
			if !json.Valid([]byte(config)) {
				t.Fatal(config)
			}
			checks := checkAccessLogs([]byte(config))
			if c.status == "" {
				if len(checks) != 1 || checks[0].Name != "access-log:srv1" {
					t.Errorf("checks %v", checks)
				}
				return
			}
			expectCheck(t, checks, "access-log:srv0", c.status, c.words...)
			if len(checks) != 1 {
				t.Errorf("checks %v", checks)
			}
		})
	}
}

func TestLiterals(t *testing.T) {
	t.Parallel()
	config := `{"apps":{"llm_proxy":{"encryption_keys":["{env.K}","CANARY"],"management_token":"CANARY","providers":{
		"b":{"api_key":"CANARY"},"a":{"api_key":"{file./run/x}"},"c":{}}}}}`
	var options []string
	for _, c := range checkLiterals([]byte(config)) {
		expectText(t, c.Detail, "{env.NAME}")
		option, _, _ := strings.Cut(c.Detail, " is written")
		options = append(options, c.Status+" "+option)
	}
	want := []string{"warn llm_proxy > encryption_key", "warn llm_proxy > management_token", "warn llm_proxy > provider b > api_key"}
	if !slices.Equal(options, want) {
		t.Errorf("got %q, want %q", options, want)
	}
}

func TestHandlerProviders(t *testing.T) {
	t.Parallel()
	config := `{"apps":{"http":{"servers":{"a":{"routes":[{"handle":[{"handler":"llm_proxy","provider":"sim"},{"handler":"llm_proxy"},{"handler":"llm_proxy_admin"},{"handler":"llm_proxy"}]}]}}}}}`
	if got := HandlerProviders([]byte(config)); !slices.Equal(got, []string{"openai", "sim"}) {
		t.Errorf("got %q", got)
	}
}
