package adminapi_test

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
)

// document is the served description.
type document struct{ root object }

func loadDocument(t *testing.T) *document {
	t.Helper()
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	d := &document{}
	if err := json.Unmarshal(text, &d.root); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *document) paths() object { return d.root["paths"].(object) }

// resolve follows a reference.
func (d *document) resolve(node any) object {
	o, _ := node.(object)
	for o != nil && o["$ref"] != nil {
		var at any = d.root
		for _, name := range strings.Split(strings.TrimPrefix(o["$ref"].(string), "#/"), "/") {
			at = at.(object)[name]
		}
		o = at.(object)
	}
	return o
}

func (d *document) schemaOf(node object) any {
	content, _ := node["content"].(object)
	media, _ := content["application/json"].(object)
	return media["schema"]
}

// check holds one exchange against the description and names its operation.
func (d *document) check(t *testing.T, r *http.Request, body string, res response) string {
	t.Helper()
	for pattern, item := range d.paths() {
		if !adminapi.Matched(pattern, r.URL.Path) {
			continue
		}
		op, _ := item.(object)[strings.ToLower(r.Method)].(object)
		name := fmt.Sprintf("%s %s %d", r.Method, pattern, res.status)
		if op == nil { // a method that the path does not have
			if res.status != http.StatusMethodNotAllowed && res.status != http.StatusUnauthorized && res.status != http.StatusNotFound {
				t.Errorf("%s: not in the description", name)
			}
			d.validate(t, name, object{"$ref": "#/components/schemas/Error"}, res.body)
			return name
		}
		answer := d.resolve(op["responses"].(object)[fmt.Sprint(res.status)])
		if answer == nil {
			if res.status != http.StatusNotFound {
				t.Errorf("%s: this status is not in the description", name)
			}
			return name
		}
		if content, _ := answer["content"].(object); res.isCSV() {
			if content["text/csv"] == nil {
				t.Errorf("%s: the description knows no CSV", name)
			}
		} else if schema := d.schemaOf(answer); schema != nil {
			d.validate(t, name, schema, res.body)
		} else if len(res.body) > 0 {
			t.Errorf("%s: the description knows no body", name)
		}
		described, _ := answer["headers"].(object)
		for _, header := range []string{"Location", "Link", "X-Total-Count", "Retry-After", "Www-Authenticate"} {
			known := slices.ContainsFunc(slices.Collect(maps.Keys(described)), func(s string) bool { return strings.EqualFold(s, header) })
			if res.header.Get(header) != "" && !known {
				t.Errorf("%s: header %s is not in the description", name, header)
			}
		}
		if body != "" && res.status < 300 { // what is accepted must be described
			d.validate(t, name+" request", d.schemaOf(d.resolve(op["requestBody"])), []byte(body))
		}
		return name
	}
	if res.status != http.StatusNotFound && res.status != http.StatusUnauthorized {
		t.Errorf("%s %s: %d outside of the description", r.Method, r.URL.Path, res.status)
	}
	d.validate(t, r.URL.Path, object{"$ref": "#/components/schemas/Error"}, res.body)
	return fmt.Sprintf("%s ? %d", r.Method, res.status)
}

func (d *document) validate(t *testing.T, where string, schema any, text []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Errorf("%s: %v in %s", where, err, text)
		return
	}
	for _, fault := range d.faults("", schema, v) {
		t.Errorf("%s: %s in %s", where, fault, text)
	}
}

// faults validates v against the subset of JSON Schema that the description uses;
// a keyword outside of it is a fault too, so that none is silently ignored.
func (d *document) faults(at string, schema, v any) (list []string) {
	add := func(format string, args ...any) { list = append(list, at+" "+fmt.Sprintf(format, args...)) }
	s := d.resolve(schema)
	if s == nil {
		add("has no schema")
	}
	for keyword, arg := range s {
		switch keyword {
		case "type":
			names := []any{arg}
			if several, ok := arg.([]any); ok {
				names = several
			}
			if !slices.ContainsFunc(names, func(name any) bool { return isType(name.(string), v) }) {
				add("is not of type %v", arg)
			}
		case "enum":
			if !slices.Contains(arg.([]any), v) {
				add("is none of %v", arg)
			}
		case "required":
			for _, name := range arg.([]any) {
				if o, ok := v.(object); ok {
					if _, given := o[name.(string)]; !given {
						add("lacks %s", name)
					}
				}
			}
		case "properties", "additionalProperties":
		case "items":
			if a, ok := v.([]any); ok {
				for i, item := range a {
					list = append(list, d.faults(fmt.Sprintf("%s[%d]", at, i), arg, item)...)
				}
			}
		case "oneOf":
			fits := 0
			for _, other := range arg.([]any) {
				if len(d.faults(at, other, v)) == 0 {
					fits++
				}
			}
			if fits != 1 {
				add("fits %d of %v", fits, arg)
			}
		case "minimum", "maximum":
			if n, ok := v.(float64); ok && (keyword == "minimum" && n < arg.(float64) || keyword == "maximum" && n > arg.(float64)) {
				add("is beyond %s %v", keyword, arg)
			}
		case "minLength", "maxLength":
			if text, ok := v.(string); ok {
				n := float64(utf8.RuneCountInString(text))
				if keyword == "minLength" && n < arg.(float64) || keyword == "maxLength" && n > arg.(float64) {
					add("is beyond %s %v", keyword, arg)
				}
			}
		case "pattern":
			if text, ok := v.(string); ok && !regexp.MustCompile(arg.(string)).MatchString(text) {
				add("does not match %s", arg)
			}
		case "format":
			if text, ok := v.(string); ok && !isFormat(arg.(string), text) {
				add("is not a %s", arg)
			}
		case "maxItems", "maxProperties", "description", "default", "writeOnly":
		default:
			add("has a schema with %s, which this test does not know", keyword)
		}
	}
	if o, ok := v.(object); ok {
		list = append(list, d.memberFaults(at, s, o)...)
	}
	return list
}

func (d *document) memberFaults(at string, s, o object) (list []string) {
	properties, _ := s["properties"].(object)
	for name, value := range o {
		switch rest, restricted := s["additionalProperties"]; {
		case properties[name] != nil:
			list = append(list, d.faults(at+"."+name, properties[name], value)...)
		case rest == false:
			list = append(list, at+" has an unknown member "+name)
		case restricted:
			list = append(list, d.faults(at+"."+name, rest, value)...)
		}
	}
	return list
}

func isType(name string, v any) bool {
	switch x := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case float64:
		return name == "number" || name == "integer" && x == math.Trunc(x)
	case []any:
		return name == "array"
	}
	return name == "object"
}

func isFormat(name, text string) bool {
	switch name {
	case "uuid":
		id, err := uuid.FromString(text)
		return err == nil && id.String() == text
	case "date-time":
		_, err := time.Parse(time.RFC3339Nano, text)
		return err == nil
	}
	return false
}

func TestDescriptionMatchesRoutes(t *testing.T) {
	d := loadDocument(t)
	described := map[string][]string{} // "GET /path" → its query parameters
	public := map[string]bool{}
	operations := map[string]bool{}
	for pattern, item := range d.paths() {
		for method, node := range item.(object) {
			if method == "parameters" {
				continue
			}
			op := node.(object)
			name := strings.ToUpper(method) + " " + pattern
			query := []string{}
			params, _ := op["parameters"].([]any)
			for _, p := range params {
				query = append(query, d.resolve(p)["name"].(string))
			}
			described[name] = query
			public[name] = op["security"] != nil
			if operations[op["operationId"].(string)] {
				t.Errorf("%s: operationId is used twice", name)
			}
			operations[op["operationId"].(string)] = true
		}
	}
	served := map[string]bool{}
	for _, rt := range newHarness(t).api.Routes() {
		name := rt.Method + " " + rt.Pattern
		served[name] = true
		query, ok := described[name]
		switch {
		case !ok:
			t.Errorf("%s is served but not described", name)
		case !slices.Equal(slices.Sorted(slices.Values(query)), slices.Sorted(slices.Values(rt.Query))):
			t.Errorf("%s takes %v but %v are described", name, rt.Query, query)
		case public[name] != rt.Public:
			t.Errorf("%s: public is %v, described as %v", name, rt.Public, public[name])
		}
	}
	for name := range described {
		if !served[name] {
			t.Errorf("%s is described but not served", name)
		}
	}
}

func TestDescriptionListsCodes(t *testing.T) {
	d := loadDocument(t)
	code := d.resolve(object{"$ref": "#/components/schemas/Error"})["properties"].(object)["code"].(object)
	var described []string
	for _, c := range code["enum"].([]any) {
		described = append(described, c.(string))
	}
	slices.Sort(described)
	if !slices.Equal(described, adminapi.Codes()) {
		t.Errorf("described %v, used %v", described, adminapi.Codes())
	}
}

func TestDescriptionIsServed(t *testing.T) {
	h := newHarness(t)
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if res := h.call("GET", "/manage/openapi.json", ""); res.status != 200 || string(res.body) != string(want) {
		t.Errorf("%d, %d bytes", res.status, len(res.body))
	}
}
