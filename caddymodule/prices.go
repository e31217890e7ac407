package caddymodule

import (
	"fmt"
	"os"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// priceTable is the embedded table below the file that `prices` names. Reading a
// file has no effect outside, so Provision may.
func (a *App) priceTable() (*price.Table, error) {
	if a.Prices == "" {
		return price.New(nil)
	}
	path, err := resolve(a.Prices)
	if err != nil {
		return nil, fmt.Errorf("llm_proxy > prices: %w", err)
	}
	overrides, err := readPrices(path)
	if err != nil {
		return nil, fmt.Errorf("llm_proxy > prices: %w", err)
	}
	for _, name := range overrides.Providers() {
		if _, preset := provider.PresetFor(name); !preset && a.Providers[name] == nil {
			return nil, fmt.Errorf("llm_proxy > prices: %s: %q is neither a configured provider nor a type; expected a configured one's name, * for any, or one of: %s", path, name, presetNames())
		}
	}
	return price.New(overrides)
}

func readPrices(path string) (*price.Overrides, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	overrides, err := price.ParseOverrides(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return overrides, nil
}
