// Package caddymodule is the LLM proxy as Caddy modules:
//
//	llm_proxy                      the app: database, secrets, providers
//	http.handlers.llm_proxy        the data path, directive llm_proxy
//	http.handlers.llm_proxy_admin  the management side, directive llm_proxy_admin
//	admin.api.llm_proxy            /llm_proxy/… on Caddy's admin endpoint
//	caddy llm-proxy …              the command line
//
// A site needs two lines, in any order:
//
//	llm.example.com {
//		llm_proxy_admin
//		llm_proxy
//	}
//
// What all sites share goes into the global option of the same name; see [App]
// and [Provider] for its options, [Handler] for those of the data path and for the
// placeholders that it sets. docs/caddyfile.md is the reference for operators.
package caddymodule
