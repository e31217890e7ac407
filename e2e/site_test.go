package e2e

import (
	"fmt"
	"os"
	"strings"
)

// site describes a configuration; its zero value is the simplest that works.
// The fields hold lines of a Caddyfile.
type site struct {
	global    string            // global options
	app       string            // options of llm_proxy { … }
	providers map[string]string // base URL by name; "" for none
	options   map[string]string // further options by provider
	handler   string            // options of the directive
	routes    string            // in place of the two directives
	log       string            // in place of the example's access log
	database  string            // a SQLite file, in place of the default database
	postgres  bool              // PostgreSQL whatever the suite runs on; DATABASE_URL and LLM_PROXY_KEY say which
	wordy     bool              // log everything
	caddyfile string            // in place of everything; {https}, {admin} and {dir} are filled in
}

// exampleLog is the snippet that Caddyfile.example recommends for access logs.
const exampleLog = `log {
		output file {dir}/access.log
		format filter {
			wrap json
			request>headers>Authorization delete
			request>headers>X-Api-Key delete
			request>headers>Api-Key delete
			request>headers>X-Goog-Api-Key delete
			request>headers>Proxy-Authorization delete
			request>headers>Cookie delete
			request>headers>Sec-Websocket-Protocol delete
			request>uri query {
				delete key
			}
			request>headers>Referer query {
				delete key
			}
			resp_headers>Set-Cookie delete
		}
	}`

// render is the Caddyfile for a process.
func (s site) render(p *proxy) string {
	text := s.caddyfile
	if text == "" {
		text = s.compose()
	}
	return strings.NewReplacer(
		"{https}", fmt.Sprint(p.port), "{admin}", fmt.Sprint(p.adminPort), "{dir}", p.dir,
	).Replace(text)
}

// databaseLines name the site's own SQLite file, or else a database of the
// kind that the suite runs on.
func (s site) databaseLines() string {
	switch {
	case s.database != "":
		return "database sqlite " + s.database
	case s.postgres || onPostgres():
		return "database postgres {env.DATABASE_URL}\n\t\tencryption_key {env.LLM_PROXY_KEY}"
	}
	return "database sqlite " + ownSQLite
}

// ownSQLite is a process's SQLite file, for tests that look into it.
const ownSQLite = "{dir}/data/llm-proxy.db"

// onPostgres reports whether the suite runs on PostgreSQL:
// LLM_PROXY_TEST_DATABASE=postgres.
func onPostgres() bool { return os.Getenv("LLM_PROXY_TEST_DATABASE") == "postgres" }

func (s site) compose() string {
	var b strings.Builder
	exclude := "exclude tls.handshake events" // many words about each connection
	if s.wordy {
		exclude = ""
	}
	fmt.Fprintf(&b, "{\n\tadmin 127.0.0.1:{admin}\n\tgrace_period 10s\n\tskip_install_trust\n\tauto_https disable_redirects\n"+
		"\tlog {\n\t\tlevel DEBUG\n\t\t%s\n\t}\n%s\n", exclude, s.global)
	fmt.Fprintf(&b, "\tllm_proxy {\n\t\t%s\n\t\tmanagement_token {env.MANAGEMENT_TOKEN}\n%s\n", s.databaseLines(), s.app)
	for _, name := range sortedKeys(s.providers) {
		fmt.Fprintf(&b, "\t\tprovider %s {\n", name)
		if url := s.providers[name]; url != "" {
			fmt.Fprintf(&b, "\t\t\tbase_url %s\n", url)
		}
		fmt.Fprintf(&b, "\t\t\t%s\n\t\t}\n", s.options[name])
	}
	b.WriteString("\t}\n}\nhttps://localhost:{https} {\n\tbind 127.0.0.1\n")
	access := s.log
	if access == "" {
		access = exampleLog
	}
	routes := s.routes
	if routes == "" {
		routes = "llm_proxy_admin\n\tllm_proxy {\n\t" + s.handler + "\n\t}"
	}
	fmt.Fprintf(&b, "\t%s\n\t%s\n}\n", access, routes)
	return b.String()
}

// against is a site whose openai, anthropic and gemini are one provider.
func against(p *provider) site {
	return site{providers: map[string]string{"openai": p.url + "/v1", "anthropic": p.url + "/v1", "gemini": p.url}}
}
