package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// loadedConfig is a configuration as commands see it: adapted, and not running.
type loadedConfig struct {
	name string // "" for defaults
	json []byte
	app  *App // its llm_proxy app, decoded, not provisioned
}

// loadConfig reads and adapts a configuration. Without a name it is Caddy with
// the app's defaults. Unlike Caddy's own it is silent.
func loadConfig(name, adapter string) (*loadedConfig, error) {
	c := &loadedConfig{name: name, json: []byte(`{}`)}
	if name != "" {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the configuration %s does not exist: give its path with --config", name)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		if c.json, err = adaptConfig(name, adapter, data); err != nil {
			return nil, err
		}
	}
	c.json = caddy.RemoveMetaFields(c.json)
	var cfg struct {
		Apps struct {
			Proxy json.RawMessage `json:"llm_proxy"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(c.json, &cfg); err != nil {
		return nil, fmt.Errorf("the configuration %s is not valid JSON: %w", name, err)
	}
	c.app = &App{logger: slog.New(slog.DiscardHandler)}
	if len(cfg.Apps.Proxy) > 0 {
		if err := caddy.StrictUnmarshalJSON(cfg.Apps.Proxy, c.app); err != nil {
			return nil, fmt.Errorf("reading the app llm_proxy of %s: %w", name, err)
		}
	}
	return c, nil
}

// adaptConfig turns a configuration into JSON, by the adapter given, else by the rules
// that Caddy has for names.
func adaptConfig(name, adapter string, data []byte) ([]byte, error) {
	base := strings.ToLower(filepath.Base(name))
	isJSON := filepath.Ext(base) == ".json"
	if adapter == "" && !isJSON && (strings.HasPrefix(base, "caddyfile") || strings.HasSuffix(base, ".caddyfile")) {
		adapter = "caddyfile"
	}
	if adapter == "" {
		if !json.Valid(data) {
			return nil, fmt.Errorf("the configuration %s is not JSON: if it is a Caddyfile, give --adapter caddyfile", name)
		}
		return data, nil
	}
	a := caddyconfig.GetAdapter(adapter)
	if a == nil {
		return nil, fmt.Errorf("there is no adapter of that name: expected caddyfile")
	}
	adapted, _, err := a.Adapt(data, map[string]any{"filename": name})
	if err != nil {
		return nil, fmt.Errorf("adapting the configuration: %w", err)
	}
	return adapted, nil
}

// validate checks everything that Caddy checks before it starts anything, and
// leaves nothing behind: what provisioning would write goes to a directory that is
// removed, and logs are not opened.
func (c *loadedConfig) validate() (err error) {
	dir, err := os.MkdirTemp("", "llm-proxy-doctor-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	harmless, err := withoutEffects(c.json, dir)
	if err != nil {
		return err
	}
	var cfg *caddy.Config
	if err := caddy.StrictUnmarshalJSON(harmless, &cfg); err != nil {
		return fmt.Errorf("decoding the configuration: %w", err)
	}
	return caddy.Validate(cfg)
}

// withoutEffects is a configuration whose provisioning touches nothing but dir
// and says nothing.
func withoutEffects(config []byte, dir string) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber()
	var root map[string]any
	if err := dec.Decode(&root); err != nil {
		return nil, err
	}
	if root == nil {
		root = make(map[string]any)
	}
	root["storage"] = map[string]any{"module": "file_system", "root": dir}
	// Storage of their own: certificate authorities and automation policies.
	for _, ca := range objectAt(root, "apps", "pki", "certificate_authorities") {
		delete(asObject(ca), "storage")
	}
	if policies, ok := objectAt(root, "apps", "tls", "automation")["policies"].([]any); ok {
		for _, policy := range policies {
			delete(asObject(policy), "storage")
		}
	}
	logging := objectAt(root, "logging")
	if logging == nil {
		logging = make(map[string]any)
		root["logging"] = logging
	}
	delete(logging, "sink")
	logs := asObject(logging["logs"])
	if logs == nil {
		logs = make(map[string]any)
		logging["logs"] = logs
	}
	for _, log := range logs {
		if l := asObject(log); l != nil {
			l["writer"] = map[string]any{"output": "discard"}
		}
	}
	main := asObject(logs["default"])
	if main == nil {
		main = make(map[string]any)
		logs["default"] = main
	}
	delete(main, "writer") // another one than before is announced on standard error
	main["level"] = "FATAL"
	return json.Marshal(root)
}

func asObject(v any) map[string]any {
	object, _ := v.(map[string]any)
	return object
}

// objectAt goes down a path of objects; nil when there is no such.
func objectAt(object map[string]any, path ...string) map[string]any {
	for _, name := range path {
		object = asObject(object[name])
	}
	return object
}
