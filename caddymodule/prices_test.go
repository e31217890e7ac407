package caddymodule

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// TestPrices: the file lies over the embedded table, and what is wrong with it is
// named by the option, the file, and the place in the file.
func TestPrices(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEST_DIR", dir)
	for text, want := range map[string]string{
		`{"openai": {"gpt-4o": {"input": "2.25"}}, "ours": {"*": {"input": "1"}}, "*": {"x": {"free": true}}}`: "",
		`{"opnai": {"gpt-4o": {"input": "2.25"}}}`:                                                             `"opnai" is neither a configured provider nor a type`,
		`{"openai": {"gpt-4o": {"inptu": "1"}}}`:                                                               "openai > gpt-4o > inptu: unknown",
		`{"openai": `:                                                                                          "line 1",
		``:                                                                                                     "empty",
	} {
		file := filepath.Join(dir, "prices.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		app := &App{
			Prices: "{env.TEST_DIR}/prices.json", Providers: map[string]*Provider{"ours": {Type: "openai"}},
			logger: slog.New(slog.DiscardHandler),
		}
		table, err := app.priceTable()
		if want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), "llm_proxy > prices: "+file+": ") || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", text, err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for name, nano := range map[string]int64{"openai": 2250, "ours": 1000} {
			p, ok := table.Lookup(name, "openai", "gpt-4o", time.Now())
			if !ok {
				t.Fatalf("%s: gpt-4o has no price", name)
			}
			if got, complete := p.Cost(price.Quantities{Input: 1}, ""); got != nano || !complete {
				t.Errorf("%s: %d, %v; want %d", name, got, complete, nano)
			}
		}
	}
	for path, want := range map[string]string{
		"{env.TEST_NONE_SUCH}":         "llm_proxy > prices: ",
		filepath.Join(dir, "none"):     "no such file",
		"{env.TEST_DIR}":               "directory",
		filepath.Join(dir, "no", "no"): "no such file",
	} {
		if _, err := (&App{Prices: path}).priceTable(); err == nil || !strings.HasPrefix(err.Error(), "llm_proxy > prices: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// TestPricesAtReload: a configuration has its own prices, and one with a file that
// cannot be read does not replace the running one.
func TestPricesAtReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "prices.json")
	if err := os.WriteFile(file, []byte(`{"openai": {"gpt-4o": {"free": true}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	plain, priced := sqliteApp(dir), sqliteApp(dir)
	priced["prices"] = file
	load(t, site(plain))
	version := activeApp(t).prices.Version()
	if err := reload(site(priced)); err != nil {
		t.Fatal(err)
	}
	running := activeApp(t).prices.Version()
	if !strings.HasPrefix(running, version+"+overrides:") {
		t.Errorf("prices %s, after %s", running, version)
	}
	priced["prices"] = file + ".none"
	if err := reload(site(priced)); err == nil || !strings.Contains(err.Error(), "llm_proxy > prices: ") {
		t.Errorf("a file that does not exist: %v", err)
	}
	if got := activeApp(t).prices.Version(); got != running {
		t.Errorf("prices %s, want still %s", got, running)
	}
}
