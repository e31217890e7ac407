package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
)

func (d Database) exists() bool {
	if d.Driver != "sqlite" {
		return true
	}
	_, err := os.Stat(d.DSN)
	return err == nil
}

// checkSecretFile checks that a secret is there and nobody else's to read.
func checkSecretFile(name string, s SecretSource, databaseExists bool, remedy string) Check {
	switch {
	case s.Err != nil:
		return Check{Fail, name, s.Err.Error()}
	case s.Bad != "":
		return Check{Fail, name, s.Bad}
	case s.Given != "":
		return Check{OK, name, "given by " + s.Given}
	case s.File == "":
		return Check{Fail, name, "the configuration gives none"}
	}
	info, err := os.Stat(s.File)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !databaseExists:
		return Check{Warn, name, s.File + " does not exist: the first start makes it"}
	case errors.Is(err, fs.ErrNotExist):
		return Check{Fail, name, fmt.Sprintf("%s does not exist: %s", s.File, remedy)}
	case err != nil:
		return Check{Fail, name, err.Error()}
	case !info.Mode().IsRegular():
		return Check{Fail, name, s.File + " is not a file"}
	case info.Size() == 0:
		return Check{Fail, name, s.File + " is empty: put its content back, or remove it if it never had any"}
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows":
		return Check{Fail, name, fmt.Sprintf("%s has mode %04o, so other users can read it: run chmod 600 %s", s.File, info.Mode().Perm(), s.File)}
	}
	return Check{OK, name, s.File}
}

// checkLiterals warns of secrets that GET /config/ and the autosave file show.
// They are named by option, never by value.
func checkLiterals(config []byte) []Check {
	var c struct {
		Apps struct {
			Proxy struct {
				EncryptionKeys  []string `json:"encryption_keys"`
				ManagementToken string   `json:"management_token"`
				Redis           struct {
					URLs []string `json:"urls"`
				} `json:"redis"`
				Providers map[string]struct {
					APIKey string `json:"api_key"`
				} `json:"providers"`
			} `json:"llm_proxy"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil // the check of the configuration has said so
	}
	var found []string
	proxy := c.Apps.Proxy
	if slices.ContainsFunc(proxy.EncryptionKeys, isLiteral) {
		found = append(found, "llm_proxy > encryption_key")
	}
	if isLiteral(proxy.ManagementToken) {
		found = append(found, "llm_proxy > management_token")
	}
	if slices.ContainsFunc(proxy.Redis.URLs, isLiteralWithPassword) {
		found = append(found, "llm_proxy > redis")
	}
	for _, name := range slices.Sorted(maps.Keys(proxy.Providers)) {
		if isLiteral(proxy.Providers[name].APIKey) {
			found = append(found, "llm_proxy > provider "+name+" > api_key")
		}
	}
	if len(found) == 0 {
		return []Check{{OK, "literal-secrets", "no secret is written into the configuration"}}
	}
	var checks []Check
	for _, option := range found {
		checks = append(checks, Check{Warn, "literal-secrets",
			option + " is written into the configuration, where GET /config/ and the autosave file show it: use {env.NAME} or {file./path} instead of a literal or {$NAME}"})
	}
	return checks
}

// isLiteral reports whether a value is there as it is, rather than as a placeholder.
func isLiteral(value string) bool { return value != "" && !strings.Contains(value, "{") }
