// Package cli is what the commands of `caddy llm-proxy` do: calls of the
// management API, tables and JSON on the terminal, chat, the provider simulator and
// the doctor's checks. It knows neither Caddy nor flags; package caddymodule turns
// flags and configuration into its parameters.
//
// Data goes to standard output, everything else to standard error. Errors are one
// line, in lower case, and say what to do; none holds a secret.
package cli
