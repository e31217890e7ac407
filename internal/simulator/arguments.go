package simulator

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxSchemaDepth ends schemas that nest without end.
const maxSchemaDepth = 6

// arguments makes up a tool call's arguments that satisfy the usual JSON
// Schema of function parameters. No schema gives no arguments.
func arguments(schema jsontext.Value) jsontext.Value {
	var s map[string]any
	if len(schema) == 0 || json.Unmarshal(schema, &s) != nil {
		return jsontext.Value("{}")
	}
	if _, ok := plausible("", s, 0).(object); !ok {
		return jsontext.Value("{}")
	}
	return encode(plausible("", s, 0))
}

// plausible is a value for a schema; name is the property's, for a better guess.
func plausible(name string, schema map[string]any, depth int) any {
	if depth > maxSchemaDepth {
		return nil
	}
	for _, key := range []string{"const", "default", "example"} {
		if v, ok := schema[key]; ok {
			return v
		}
	}
	if values, ok := schema["enum"].([]any); ok && len(values) > 0 {
		return values[0]
	}
	for _, key := range []string{"anyOf", "oneOf", "allOf"} {
		if options, ok := schema[key].([]any); ok && len(options) > 0 {
			first, _ := options[0].(map[string]any)
			return plausible(name, first, depth+1)
		}
	}
	switch typeOf(schema) {
	case "object":
		return plausibleObject(schema, depth)
	case "array":
		items, _ := schema["items"].(map[string]any)
		return list{plausible(name, items, depth+1)}
	case "integer", "number":
		if low, ok := schema["minimum"]; ok {
			return low
		}
		return 1
	case "boolean":
		return true
	case "null":
		return nil
	}
	return plausibleString(name, schema)
}

func plausibleObject(schema map[string]any, depth int) object {
	o := object{}
	properties, _ := schema["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		property, _ := properties[name].(map[string]any)
		o = append(o, name, plausible(name, property, depth+1))
	}
	return o
}

// typeOf is the schema's type in lower case (Gemini writes "STRING"), the
// first that is not null where several are allowed.
func typeOf(schema map[string]any) string {
	types, ok := schema["type"].([]any)
	if !ok {
		types = []any{schema["type"]}
	}
	for _, t := range types {
		if s, _ := t.(string); s != "" && (s != "null" || len(types) == 1) {
			return strings.ToLower(s)
		}
	}
	if _, ok := schema["properties"]; ok {
		return "object"
	}
	return "string"
}

func plausibleString(name string, schema map[string]any) string {
	format, _ := schema["format"].(string)
	switch format {
	case "date":
		return "2026-01-31"
	case "date-time":
		return "2026-01-31T12:00:00Z"
	case "email":
		return "user@example.com"
	case "uri", "url":
		return "https://example.com/"
	case "uuid":
		return "00000000-0000-4000-8000-000000000001"
	}
	switch strings.ToLower(name) {
	case "city", "location", "place":
		return "Berlin"
	case "date", "day":
		return "2026-01-31"
	case "email":
		return "user@example.com"
	case "url", "uri", "link":
		return "https://example.com/"
	}
	return "example"
}
