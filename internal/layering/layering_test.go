package layering_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sofatutor/caddy-llm-proxy/"

// restricted lists packages that only some of ours may import, directly.
var restricted = []struct {
	prefix string
	only   []string // path prefixes below the module
	why    string
}{
	{"github.com/caddyserver/", []string{"caddymodule", "e2e", "bench"}, "only caddymodule knows Caddy"},
	{"modernc.org/", []string{"storage"}, "only storage knows database drivers"},
	{"github.com/jackc/", []string{"storage", "internal/testdb"}, "only storage knows database drivers"},
	{"database/sql", []string{"storage", "migrations", "bench"}, "only storage knows SQL"},
	{"github.com/redis/", []string{"internal/redisconn", "internal/relay", "internal/sink", "internal/limit", "internal/eventredis", "internal/respcache", "e2e"}, "whoever needs Redis takes the connection of redisconn"},
	{"github.com/pressly/goose", []string{"migrations"}, "only migrations knows goose"},
	{module + "storage", []string{"caddymodule", "storage", "internal/adminapi", "internal/cli", "bench"}, "domain packages declare what they need"},
	{module + "internal/adminapi", []string{"caddymodule", "internal/cli"}, "the data path does not know the management side"},
	{module + "internal/gateway", []string{"caddymodule"}, "nothing is above the gateway but its host"},
	{module + "caddymodule", []string{"caddymodule", "e2e", "bench"}, "Caddy's view of us is the outermost layer"},
	{module + "internal/simulator", []string{"caddymodule", "internal/cli"}, "the simulator is a provider, not a part of the data path"},
	{"text/template", nil, "no templates from data"},
	{"plugin", nil, "no plugins at run time"},
	{"os/exec", []string{"e2e", "bench", "internal/layering", "internal/testdb"}, "the product runs no commands"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "../../...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var seen int
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		ours := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range p.Imports {
			for _, r := range restricted {
				if !strings.HasPrefix(imported, r.prefix) || slices.ContainsFunc(r.only, func(o string) bool { return strings.HasPrefix(ours, o) }) {
					continue
				}
				if r.prefix == "plugin" && imported != "plugin" {
					continue
				}
				t.Errorf("%s imports %s: %s", ours, imported, r.why)
			}
		}
	}
	if seen < 15 {
		t.Fatalf("go list found %d packages only", seen)
	}
}
