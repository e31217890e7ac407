package cli

import (
	"encoding/json"
	"slices"
)

// routeFacts is what routes say about the proxy, at any depth.
type routeFacts struct {
	handlers  int      // llm_proxy handlers of either kind
	providers []string // that llm_proxy serves /v1/* from
	loggers   []string // that log_name sets
}

// HandlerProviders lists the providers that the handlers of a configuration
// serve /v1/* from.
func HandlerProviders(config []byte) []string {
	var f routeFacts
	f.read(config)
	slices.Sort(f.providers)
	return slices.Compact(f.providers)
}

func (f *routeFacts) read(parts ...json.RawMessage) {
	for _, part := range parts {
		var v any
		if json.Unmarshal(part, &v) == nil {
			f.walk(v)
		}
	}
}

func (f *routeFacts) walk(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			f.walk(item)
		}
	case map[string]any:
		f.handler(v)
		for _, item := range v {
			f.walk(item)
		}
	}
}

func (f *routeFacts) handler(v map[string]any) {
	switch v["handler"] {
	case "llm_proxy":
		f.handlers++
		name, _ := v["provider"].(string)
		if name == "" {
			name = "openai"
		}
		f.providers = append(f.providers, name)
	case "llm_proxy_admin":
		f.handlers++
	case "vars":
		names, _ := v["access_logger_names"].([]any)
		for _, n := range names {
			if text, ok := n.(string); ok {
				f.loggers = append(f.loggers, loggerName(text))
			}
		}
	}
}
