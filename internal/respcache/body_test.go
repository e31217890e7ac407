package respcache_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

func ignore(t testing.TB, paths ...string) *respcache.Ignore {
	t.Helper()
	var parsed []respcache.Path
	for _, text := range paths {
		p, err := respcache.ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, p)
	}
	n, err := respcache.NewIgnore(parsed...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCanonicalBody(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		body, want string // want empty: no canonical form
		ignore     []string
	}{
		{body: ` { "b" : [ 1 , 2.0, {"z":1,"y":2} ] , "a" : null } `, want: `{"a":null,"b":[1,2.0,{"y":2,"z":1}]}`},
		{body: `{"n":[1,1.0,1e2,1E+2,-0,0.10,12345678901234567890]}`, want: `{"n":[1,1.0,1e2,1E+2,-0,0.10,12345678901234567890]}`},
		{body: `"\u0041\/\u20ac\u000f\u000aA'\u0042\u0022\u005c"`, want: `"A/€\u000f\nA'B\"\\"`},
		{body: "{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew\",\"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji\",\"\\u0080\":\"Control\",\"\\u00f6\":\"Latin\"}",
			want: "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin\",\"€\":\"Euro Sign\",\"😀\":\"Emoji\",\"\ufb33\":\"Hebrew\"}"}, // RFC 8785, section 3.2.3
		{body: `true`, want: `true`},
		{body: `{"user":"u","model":"m","metadata":{"user_id":1,"x":2}}`, ignore: []string{"user", "metadata.user_id"}, want: `{"metadata":{"x":2},"model":"m"}`},
		{body: `{"user":{"deep":[{"a":"}"}]},"z":"\"user\""}`, ignore: []string{"user"}, want: `{"z":"\"user\""}`},
		{body: `{"a":{"user":1},"user":2,"b":[{"user":3}]}`, ignore: []string{"user"}, want: `{"a":{"user":1},"b":[{"user":3}]}`},
		{body: `{"metadata":"text"}`, ignore: []string{"metadata.user_id"}, want: `{"metadata":"text"}`},
		{body: `{"metadata":{"user_id":1}}`, ignore: []string{"metadata.user_id"}, want: `{"metadata":{}}`},
		{body: `{"a.b":1,"a":{"b":2},"\\":3}`, ignore: []string{`a\.b`, `\\`}, want: `{"a":{"b":2}}`},
		{body: `{"us\u0065r":1,"é":2}`, ignore: []string{"user", "é"}, want: `{}`},
		{body: `[{"user":1}]`, ignore: []string{"user"}, want: `[{"user":1}]`},
		{body: `{"a":1,"b":2,"c":3}`, ignore: []string{"c", "a"}, want: `{"b":2}`},
		{body: `{"a":{"b":1,"c":2}}`, ignore: []string{"a", "a.b"}, want: `{}`},

		{body: ``}, {body: `{`}, {body: `{}{}`}, {body: `{"a":1,}`}, {body: `{'a':1}`}, {body: `nul`}, {body: `01`},
		{body: `{"a":1,"a":2}`}, {body: `{"a":1,"\u0061":2}`}, {body: `{"x":{"a":1,"a":1}}`},
		{body: "\"\xff\""}, {body: `"\ud800"`}, {body: `"\udc00\ud800"`}, {body: "\xef\xbb\xbf{}"}, {body: "{\"a\":1}\x00"},
		{body: strings.Repeat("[", 200) + strings.Repeat("]", 200)},
	} {
		got, ok := respcache.CanonicalBody([]byte(tc.body), ignore(t, tc.ignore...))
		if string(got) != tc.want || ok != (tc.want != "") {
			t.Errorf("%.80q without %q is %q, %t, want %q", tc.body, tc.ignore, got, ok, tc.want)
		}
	}
	deep := strings.Repeat("[", 128) + `"[[[\"[["` + strings.Repeat("]", 128)
	if got, ok := respcache.CanonicalBody([]byte(deep), nil); !ok || string(got) != deep {
		t.Errorf("128 levels: %t", ok)
	}
}

// TestBodies: raw bytes, canonical JSON and what was ignored are never taken for
// each other.
func TestBodies(t *testing.T) {
	t.Parallel()
	canonical, user, model := `{"a":1}`, ignore(t, "user"), ignore(t, "model")
	distinct := map[string]respcache.Body{
		"none":             {},
		"raw":              respcache.RawBody([]byte(canonical)),
		"raw, with a type": respcache.RawBody([]byte(canonical), "text/plain"),
		"raw, two fields":  respcache.RawBody([]byte(canonical), "text", "/plain"),
		"JSON":             respcache.JSONBody([]byte(canonical), nil),
		"JSON, less user":  respcache.JSONBody([]byte(`{"a":1,"user":1}`), user),
		"JSON, less model": respcache.JSONBody([]byte(`{"a":1,"model":1}`), model),
		"stream":           respcache.JSONBody([]byte(`{"a":1,"stream":true}`), nil),
		"no stream":        respcache.JSONBody([]byte(`{"a":1,"stream":false}`), nil),
		"another literal":  respcache.JSONBody([]byte(`{"a":1.0}`), nil),
		"a name twice":     respcache.JSONBody([]byte(`{"a":1,"a":1}`), nil),
		"a name twice, 2":  respcache.JSONBody([]byte(`{"a":1, "a":1}`), nil),
		"another type":     respcache.JSONBody([]byte(`{"a":1,"a":1}`), nil, "text/plain"),
		"JSON in a string": respcache.JSONBody([]byte(`"{\"a\":1}"`), nil),
	}
	for name, a := range distinct {
		for other, b := range distinct {
			if name != other && a == b {
				t.Errorf("%s is %s", name, other)
			}
		}
	}
	for _, same := range []string{` {"a" : 1}`, "{\"a\":1}\n", `{"\u0061":1}`} {
		if respcache.JSONBody([]byte(same), nil, "application/json; charset=utf-8") != distinct["JSON"] {
			t.Errorf("%s is another body", same)
		}
	}
	if respcache.JSONBody([]byte(`{"user":2,"a":1}`), ignore(t, "user", "user")) != distinct["JSON, less user"] {
		t.Error("an ignored member makes another body")
	}
	if respcache.JSONBody([]byte(canonical), ignore(t)) != distinct["JSON"] {
		t.Error("ignoring nothing makes another body")
	}
}

// value draws JSON.
func value(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(rapid.Just(any(nil)), rapid.Bool().AsAny(), rapid.Int32().AsAny(), rapid.String().AsAny())
	if depth == 0 {
		return leaf
	}
	name := rapid.OneOf(rapid.SampledFrom([]string{"user", "metadata", "user_id", "a.b"}), rapid.String())
	return rapid.OneOf(leaf, rapid.SliceOfN(value(depth-1), 0, 3).AsAny(), rapid.MapOfN(name, value(depth-1), 0, 4).AsAny())
}

// TestCanonicalProperties: the order of members and whitespace do not matter, the
// canonical form is its own, and says what the body says less what is ignored.
func TestCanonicalProperties(t *testing.T) {
	t.Parallel()
	set := ignore(t, "user", "metadata.user_id", `a\.b.user`)
	rapid.Check(t, func(t *rapid.T) {
		v := value(3).Draw(t, "value")
		a, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		if b, err = shuffled(a, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))); err != nil {
			t.Fatal(err)
		}
		one, ok := respcache.CanonicalBody(a, set)
		two, also := respcache.CanonicalBody(b, set)
		if !ok || !also || !bytes.Equal(one, two) {
			t.Fatalf("%s and %s: %s, %s", a, b, one, two)
		}
		if again, ok := respcache.CanonicalBody(one, set); !ok || !bytes.Equal(again, one) {
			t.Fatalf("%s becomes %s", one, again)
		}
		var got, want any
		if json.Unmarshal(one, &got) != nil || json.Unmarshal(a, &want) != nil {
			t.Fatalf("%s is not JSON", one)
		}
		if o, ok := want.(map[string]any); ok {
			delete(o, "user")
			if m, ok := o["metadata"].(map[string]any); ok {
				delete(m, "user_id")
			}
			if m, ok := o["a.b"].(map[string]any); ok {
				delete(m, "user")
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s says %v, want %v", one, got, want)
		}
	})
}

// shuffled is the same JSON with its members in another order, and indented.
func shuffled(src []byte, r *rand.Rand) ([]byte, error) {
	var raw map[string]json.RawMessage
	if len(src) == 0 || src[0] != '{' {
		v := jsontext.Value(bytes.Clone(src))
		return v, v.Indent()
	}
	if err := json.Unmarshal(src, &raw); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(raw))
	for name := range raw {
		names = append(names, name)
	}
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var out bytes.Buffer
	for i, name := range names {
		if i > 0 {
			out.WriteByte(',')
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		inner, err := shuffled(raw[name], r)
		if err != nil {
			return nil, err
		}
		out.Write(quoted)
		out.WriteString(" : ")
		out.Write(inner)
	}
	return []byte("{" + out.String() + "}\n"), nil
}

// FuzzCanonicalBody: what has a canonical form says the same as that, and whoever
// ignores something never gets more than others do.
func FuzzCanonicalBody(f *testing.F) {
	for _, seed := range []string{`{"user":1,"metadata":{"user_id":2}}`, `{"a":"\ud83d\ude00","b":[{}]}`, `[1e400,"\"",{"user":{}}]`, `{"user":"}","x":","}`, "\xff", `{"a":1,"a":2}`} {
		f.Add([]byte(seed))
	}
	set := ignore(f, "user", "metadata.user_id")
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		whole, ok := respcache.CanonicalBody(body, nil)
		less, also := respcache.CanonicalBody(body, set)
		if ok != also || !bytes.Equal(body, before) {
			t.Fatalf("%q: %t, %t", body, ok, also)
		}
		if !ok {
			return
		}
		if !jsontext.Value(whole).IsValid() || !jsontext.Value(less).IsValid() || len(less) > len(whole) {
			t.Fatalf("%q becomes %q and %q", body, whole, less)
		}
		again, ok := respcache.CanonicalBody(whole, nil)
		if !ok || !bytes.Equal(again, whole) {
			t.Fatalf("%q becomes %q", whole, again)
		}
		if viaWhole, _ := respcache.CanonicalBody(whole, set); !bytes.Equal(viaWhole, less) {
			t.Fatalf("%q and %q", viaWhole, less)
		}
	})
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"user", "metadata.user_id", `a\.b.c`, `\\`, "é", "a b"} {
		p, err := respcache.ParsePath(text)
		if err != nil || p.String() != text {
			t.Errorf("%q is read as %q, %v", text, p, err)
		}
	}
	for text, want := range map[string]string{
		"": "expected the name", ".": "empty name", "a.": "empty name", ".a": "empty name", "a..b": "empty name", `a\`: "backslash", `a\b`: "backslash",
		"\xff": "UTF-8", strings.Repeat("a", 257): "256 bytes", strings.Repeat("a.", 16) + "a": "more than 16",
	} {
		if _, err := respcache.ParsePath(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := respcache.NewIgnore(respcache.Path{}); err == nil {
		t.Error("an empty path is ignored")
	}
	if _, err := respcache.NewIgnore(make([]respcache.Path, 65)...); err == nil {
		t.Error("65 paths")
	}
}
