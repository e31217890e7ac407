package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// tour notes every answer that it is given on the way.
type tour struct {
	*proxy
	t       *testing.T
	answers strings.Builder
	secrets map[string]string // by what they are
}

func (v *tour) visit(r request) answer {
	v.t.Helper()
	got := v.do(v.t, r)
	fmt.Fprintln(&v.answers, got.status, got.header, got.body, got.trailer)
	return got
}

func (v *tour) secret(what, value string) string {
	v.secrets[what] = value
	return value
}

// account is an account whose secrets are looked for.
func (v *tour) account(what string, policy ...object) *account {
	v.t.Helper()
	a := v.proxy.account(v.t, policy...)
	v.secret(what+"'s key", a.key)
	v.secret(what+"'s token", a.token)
	return a
}

func (v *tour) managed(method, path string, body any) {
	v.t.Helper()
	status, text := v.tryManage(v.t, method, path, body)
	fmt.Fprintln(&v.answers, status, text)
}

// TestNothingTellsSecrets goes everywhere with debug logs on, and then looks
// for every secret in all that the process has said and written.
func TestNothingTellsSecrets(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	echo := newScripted(t, echoCredential)
	s := against(sim)
	s.database = ownSQLite // it is searched too
	s.wordy = true
	s.app = "encryption_key {env.ENCRYPTION_KEY}"
	s.options = map[string]string{
		"openai": "allow_origins https://app.example.com", "anthropic": "api_key {file.{dir}/shared-key}", "gemini": "",
		"echo": "type openai\napi_key {env.SHARED_KEY}", "echoquery": "type openai\nauth query key\napi_key {env.SHARED_KEY}",
		"closed": "type openai\napi_key {env.SHARED_KEY}",
	}
	s.providers["echo"], s.providers["echoquery"], s.providers["closed"] = echo.url+"/v1", echo.url+"/v1", unused(t)+"/v1"
	v := &tour{t: t, secrets: make(map[string]string)}
	v.secret("management token", managementToken)
	shared := v.secret("shared key", "sk-shared-Qm7wXk2ZpL9vBn4RtY6u")
	encryption := v.secret("encryption key", base64.StdEncoding.EncodeToString([]byte("0123456789abcdefFEDCBA9876543210")))
	fileKey := v.secret("shared key in a file", "sk-file-Hd8sKw3NfJ5gVc1ZxQ0e")
	v.proxy = launchWithFile(t, s, "shared-key", fileKey, "SHARED_KEY="+shared, "ENCRYPTION_KEY="+encryption)
	v.await()

	a := v.account("a")
	v.requests(a)
	v.failures(a)
	v.sockets(a)
	v.management(a)
	v.reloads(s)
	v.visit(chat(a.token, "gpt-4o", false))
	v.stop()
	v.search()
}

// launchWithFile puts a file into the process's directory before it starts.
func launchWithFile(t *testing.T, s site, name, text string, env ...string) *proxy {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for provider, options := range s.options {
		s.options[provider] = strings.ReplaceAll(options, "{dir}/"+name, path)
	}
	return launch(t, s, env...)
}

// echoCredential answers with all that it was sent, as the path asks.
func echoCredential(c net.Conn, r *http.Request) bool {
	credential := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + r.URL.Query().Get("key")
	status, header, body := "200 OK", "", `{"data":[]}`
	switch r.URL.Path {
	case "/v1/models/400", "/v1/models/401", "/v1/models/403", "/v1/models/429", "/v1/models/500", "/v1/models/503":
		status = strings.TrimPrefix(r.URL.Path, "/v1/models/") + " Error"
		body = `{"error":{"message":"bad key ` + credential + `","code":"x"}}`
	case "/v1/models/header":
		status, header = "403 Forbidden", "X-Debug-Key: "+credential+"\r\n"
	case "/v1/models/redirect":
		status, header = "307 Temporary Redirect", "Location: /elsewhere?key="+url.QueryEscape(credential)+"\r\n"
	}
	fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", status, header, len(body), body)
	return true
}

// requests uses the data path in every way that works.
func (v *tour) requests(a *account) {
	for _, proto := range allProtocols {
		for _, d := range allDialects {
			for _, stream := range []bool{false, true} {
				r := d.ask(string(d), a.token, "sim-echo", stream)
				r.proto = proto
				v.visit(r)
			}
		}
	}
	for _, header := range []http.Header{
		{"X-Api-Key": {a.token}}, {"Api-Key": {a.token}}, {"X-Goog-Api-Key": {a.token}}, {"Authorization": {"bearer " + a.token}},
		{"Sec-Websocket-Protocol": {"openai-insecure-api-key." + a.token}},
	} {
		v.visit(request{path: "/v1/models", header: header})
	}
	v.visit(request{path: "/v1/models?key=" + a.token})
	v.visit(request{path: "/v1/models?k%65y=" + a.token})
	v.visit(request{path: "/v1/models", token: a.token, header: http.Header{"Cookie": {"t=" + a.token}, "Referer": {"https://x.example.com/?key=" + a.token}}})
	v.visit(request{path: "/v1/llm-proxy/token", token: a.token})
	v.visit(request{path: "/other?key=" + a.token})
	for _, kind := range []string{"cookie", "redirect", "crlf", "trailer", "truncate", "error-midstream", "error-429", "error-500"} {
		v.visit(chat(a.token, "sim-"+kind, true))
	}
}

// failures uses it in every way that does not.
func (v *tour) failures(a *account) {
	t := v.t
	for what, text := range map[string]string{
		"an unknown token": mint(t), "a forged token": forged(t, a), "an expired token": expired(t, a), "a foreign key": "sk-ant-api03-Wq5mZt8LxJk2Rv9N",
	} {
		v.secret(what, text)
		for _, d := range allDialects {
			v.visit(d.ask(string(d), text, "m", false))
		}
		v.visit(request{path: "/v1/models", header: http.Header{"X-Api-Key": {text}, "Api-Key": {a.token}}})
		v.visit(request{path: "/v1/models?key=" + text})
		v.visit(request{path: "/v1/models", header: http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+text))}}})
	}
	v.visit(request{path: "/v1/nothing/" + "here", token: a.token})
	v.visit(request{path: "/v1/models/..%2fx?key=" + a.token})
	v.visit(request{method: "PUT", path: "/v1/models", token: a.token})
	v.visit(request{path: "/v1/models", token: a.token, header: http.Header{"Origin": {"https://evil.example.com"}}})
	v.visit(request{path: "/closed/models", token: a.token})
	v.visit(request{path: "/mistral/models", token: a.token})
	for _, model := range []string{"sim-error-401", "sim-abort-headers", "sim-abort", "sim-unknown-order"} {
		for _, d := range allDialects {
			v.visit(d.ask(string(d), a.token, model, true))
		}
	}
	for _, path := range []string{"400", "401", "403", "429", "500", "503", "header", "redirect"} {
		for _, provider := range []string{"echo", "echoquery"} {
			got := v.visit(request{path: "/" + provider + "/models/" + path, token: a.token})
			if got.status != http.StatusBadGateway {
				t.Errorf("%s %s: status %d for an answer that tells the key", provider, path, got.status)
			}
		}
	}
	cut := v.account("b")
	resp := v.open(t, bounded(t), chat(cut.token, "sim-chunks-100+silent-20s", true))
	cut.revoke(t)
	body, _ := io.ReadAll(resp.Body)
	v.answers.Write(body)
}

// sockets opens WebSockets with the token in each place.
func (v *tour) sockets(a *account) {
	for _, opt := range []*websocket.DialOptions{
		{Subprotocols: []string{"realtime", "openai-insecure-api-key." + a.token}},
		{HTTPHeader: http.Header{"Authorization": {"Bearer " + a.token}}},
		{HTTPHeader: http.Header{"X-Api-Key": {a.token}}},
		{Subprotocols: []string{"realtime", "openai-insecure-api-key." + v.secrets["a forged token"]}},
	} {
		opt.HTTPClient = v.client(h1)
		ctx := bounded(v.t)
		c, resp, err := websocket.Dial(ctx, v.url+"/v1/realtime?model=gpt-realtime", opt)
		if resp != nil {
			fmt.Fprintln(&v.answers, resp.StatusCode, resp.Header)
		}
		if err == nil {
			_, data, _ := c.Read(ctx)
			v.answers.Write(data)
			c.CloseNow()
		}
	}
	c, _, err := websocket.Dial(bounded(v.t), v.url+"/v1/realtime?model=gpt-realtime&key="+a.token, &websocket.DialOptions{HTTPClient: v.client(h1)})
	if err != nil {
		v.t.Errorf("?key= with a WebSocket: %v", err)
		return
	}
	c.CloseNow()
}

// management reads and changes everything. Only the answers that make a token
// may hold it, and they are not among those that are searched.
func (v *tour) management(a *account) {
	t := v.t
	keys, _ := v.tryManage(t, "GET", "projects/"+a.projectID+"/keys", nil)
	if keys != http.StatusOK {
		t.Fatalf("listing keys: %d", keys)
	}
	extra := v.secret("an added key", "sk-added-Pz4xCv7BnM1qWe6RtY8u")
	v.managed("POST", "projects/"+a.projectID+"/keys", object{"provider": "echo", "api_key": extra, "label": "added"})
	v.managed("POST", "projects/"+a.projectID+"/keys", object{"provider": "echo", "api_key": v.secret("a second key", "sk-second-Ab3cDe5fGh7iJk9l")})
	v.managed("POST", "projects/"+a.projectID+"/keys", object{"provider": "gemini", "api_key": v.secret("a broken key", "sk-broken-Zx9yWv7uTs5r") + " x"})
	v.managed("POST", "projects", object{"name": "c", "api_key": v.secret("a first key", "sk-first-Mn6bVc4xZa2sDf8g"), "nonsense": true})
	v.managed("POST", "projects", object{"name": "c", "api_key": v.secrets["a first key"]})
	rotated := v.manage(t, "POST", "tokens/"+a.tokenID+"/rotate", object{"overlap_minutes": 10})
	v.secret("a rotated token", rotated["token"].(string))
	for _, path := range []string{
		"projects", "projects/" + a.projectID, "projects/" + a.projectID + "/keys", "tokens", "tokens/" + a.tokenID, "audit", "providers", "openapi.json",
	} {
		v.managed("GET", path, nil)
	}
	for _, token := range []string{a.token, "wrong-" + managementToken} {
		v.visit(request{path: "/manage/projects", token: token})
	}
	v.visit(request{path: "/manage/projects?key=" + a.token})
	v.visit(request{path: "/v1/models", token: managementToken})
	for _, path := range []string{"/health", "/live", "/ready"} {
		v.visit(request{path: path, token: managementToken})
	}
}

// reloads shows the configuration to Caddy's admin endpoint, good and bad.
func (v *tour) reloads(s site) {
	v.reload(s)
	for _, path := range []string{"/config/", "/debug/vars", "/reverse_proxy/upstreams", "/pki/ca/local", "/debug/pprof/goroutine?debug=2", "/metrics"} {
		v.answers.WriteString(v.admin(path))
	}
	bad := v.secret("a secret in a bad configuration", "sk-wrong-Yt5rEw3qAs1dFg7h")
	for _, app := range []string{
		"encryption_key " + bad,
		"encryption_key {env.ENCRYPTION_KEY} " + bad,
		"provider groq {\n base_url https://user:" + bad + "@api.example.com/v1\n}",
		"provider groq {\n api_key " + bad + "\n unknown\n}",
		"provider groq {\n api_key " + bad + " twice\n}",
		"provider groq {\n api_key " + bad + "\n dial_timeout -1s\n}",
		"provider groq {\n api_key {env.NONE_SUCH}" + bad + "\n}",
	} {
		broken := s
		broken.app = app
		err := v.load(broken)
		if err == nil {
			v.t.Errorf("loaded: %s", app)
			continue
		}
		v.answers.WriteString(err.Error())
	}
}

// search looks for every secret in every form.
func (v *tour) search() {
	haystacks := map[string][]byte{"answers": []byte(v.answers.String()), "output": []byte(v.output.String())}
	err := filepath.WalkDir(v.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(v.dir, path)
		haystacks[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		v.t.Fatal(err)
	}
	for _, name := range []string{"output", "access.log", "data/llm-proxy.db", "config/caddy/autosave.json"} {
		if len(haystacks[name]) == 0 {
			v.t.Errorf("nothing in %s: the search would prove little", name)
		}
	}
	for what, value := range v.secrets {
		for form, needle := range forms(value) {
			for name, data := range haystacks {
				if i := bytes.Index(data, []byte(needle)); i >= 0 {
					v.t.Errorf("%s is in %s (%s): …%s…", what, name, form, data[max(0, i-400):min(len(data), i+len(needle)+60)])
				}
			}
		}
	}
}

// forms are the ways in which a secret might be written down; its middle stands
// for all cut or decorated ones.
func forms(value string) map[string]string {
	middle := value[len(value)/3 : len(value)-len(value)/8]
	all := map[string]string{
		"part": middle, "URL": url.QueryEscape(value), "hex": hex.EncodeToString([]byte(middle)),
		"HEX": strings.ToUpper(hex.EncodeToString([]byte(middle))),
	}
	for shift := range 3 { // a longer text may hold it at any offset
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + middle))
		text = text[4 : len(text)-4]
		all[fmt.Sprint("base64+", shift)] = text
		all[fmt.Sprint("base64url+", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(text)
	}
	if strings.HasPrefix(value, "sk-wt-") && len(value) == 77 {
		if random, err := base64.RawURLEncoding.DecodeString(value[28:71]); err == nil {
			all["bytes"] = string(random)
		}
	}
	return all
}
