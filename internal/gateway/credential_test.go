package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	tokenA = "sk-wt-AAAAAAAAAAAAAAAAAAAAAA-one"
	tokenB = "sk-wt-BBBBBBBBBBBBBBBBBBBBBB-two"
)

// credentialRequest makes a request with header lines such as "X-Api-Key: a".
func credentialRequest(t testing.TB, target string, lines ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, http.NoBody)
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("%q is not a header line", line)
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		r.Header[name] = append(r.Header[name], value)
	}
	return r
}

func TestClientCredential(t *testing.T) {
	const a, b = tokenA, tokenB
	protocol := "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key."
	for name, tc := range map[string]struct {
		target string
		lines  []string
		want   string // "": refused
	}{
		"none":                          {},
		"bearer":                        {lines: []string{"Authorization: Bearer " + a}, want: a},
		"bearer, lower case":            {lines: []string{"Authorization: bearer " + a}, want: a},
		"bearer, upper case":            {lines: []string{"Authorization: BEARER " + a}, want: a},
		"bearer, many spaces":           {lines: []string{"Authorization: Bearer   " + a + " "}, want: a},
		"x-api-key":                     {lines: []string{"X-Api-Key: " + a}, want: a},
		"api-key":                       {lines: []string{"Api-Key: " + a}, want: a},
		"x-goog-api-key":                {lines: []string{"X-Goog-Api-Key: " + a}, want: a},
		"spaces around":                 {lines: []string{"X-Api-Key:  " + a + "\t"}, want: a},
		"query":                         {target: "/v1/models?key=" + a, want: a},
		"query, escaped value":          {target: "/v1/models?key=" + strings.Replace(a, "-", "%2D", 1), want: a},
		"query, escaped name":           {target: "/v1/models?%6bey=" + a, want: a},
		"query, all escaped":            {target: "/v1/models?x=1&%6B%65%79=" + a, want: a},
		"query, same twice":             {target: "/v1/models?key=" + a + "&key=" + a, want: a},
		"subprotocol":                   {lines: []string{protocol + a}, want: a},
		"subprotocol, second line":      {lines: []string{"Sec-WebSocket-Protocol: realtime", protocol + a}, want: a},
		"everywhere the same":           {target: "/?key=" + a, lines: []string{"Authorization: Bearer " + a, "X-Api-Key: " + a, "Api-Key: " + a, "X-Goog-Api-Key: " + a, protocol + a}, want: a},
		"basic beside x-api-key":        {lines: []string{"Authorization: Basic dTpw", "X-Api-Key: " + a}, want: a},
		"bearer of another kind beside": {lines: []string{"Authorization: Bearer other", "X-Api-Key: " + a}},
		"empty bearer beside":           {lines: []string{"Authorization: Bearer ", "X-Api-Key: " + a}, want: a},
		"empty x-api-key beside":        {lines: []string{"Authorization: Bearer " + a, "X-Api-Key: "}, want: a},
		"empty query beside":            {target: "/?key=", lines: []string{"X-Api-Key: " + a}, want: a},
		"basic alone":                   {lines: []string{"Authorization: Basic dTpw"}},
		"bare authorization":            {lines: []string{"Authorization: " + a}},
		"bearer with a tab":             {lines: []string{"Authorization: Bearer\t" + a}},
		"bearer without a value":        {lines: []string{"Authorization: Bearer"}},
		"empty everywhere":              {target: "/?key=", lines: []string{"Authorization: Bearer ", "X-Api-Key: ", "Api-Key:  "}},
		"two authorizations":            {lines: []string{"Authorization: Bearer " + a, "Authorization: Bearer " + b}},
		"the same authorization twice":  {lines: []string{"Authorization: Bearer " + a, "Authorization: Bearer " + a}},
		"basic and bearer lines":        {lines: []string{"Authorization: Basic dTpw", "Authorization: Bearer " + a}},
		"two x-api-keys":                {lines: []string{"X-Api-Key: " + a, "X-Api-Key: " + a}},
		"header and header":             {lines: []string{"Authorization: Bearer " + a, "X-Api-Key: " + b}},
		"header and query":              {target: "/?key=" + b, lines: []string{"Authorization: Bearer " + a}},
		"header and escaped query":      {target: "/?k%65y=" + b, lines: []string{"Authorization: Bearer " + a}},
		"header and subprotocol":        {lines: []string{"Api-Key: " + a, protocol + b}},
		"two queries":                   {target: "/?key=" + a + "&key=" + b},
		"two subprotocols":              {lines: []string{protocol + a, protocol + b}},
		"a comma is no list":            {lines: []string{"X-Api-Key: " + a + ", " + b}, want: a + ", " + b}, // no token has this form
		"other query names":             {target: "/?Key=" + a + "&apikey=" + a + "&k=" + a + "&key%00=" + a},
		"cookie":                        {lines: []string{"Cookie: key=" + a}},
		"proxy authorization":           {lines: []string{"Proxy-Authorization: Bearer " + a}},
	} {
		t.Run(name, func(t *testing.T) {
			target := tc.target
			if target == "" {
				target = "/v1/models"
			}
			r := credentialRequest(t, target, tc.lines...)
			got, ok := clientCredential(r)
			if ok != (tc.want != "") || ok && got != tc.want {
				t.Errorf("%q, %t; want %q", got, ok, tc.want)
			}
		})
	}
}

func TestWithoutKey(t *testing.T) {
	for raw, want := range map[string]string{
		"":                        "",
		"a=1&b=2":                 "a=1&b=2",
		"key=x":                   "",
		"key":                     "",
		"key=x&a=1":               "a=1",
		"a=1&key=x":               "a=1",
		"a=1&key=x&b=2":           "a=1&b=2",
		"key=x&key=y":             "",
		"%6bey=x&a=%6b":           "a=%6b",
		"a=%zz&%zz=1&key=x":       "a=%zz&%zz=1",
		"Key=x&keys=1&monkey=2":   "Key=x&keys=1&monkey=2",
		"a=1&&key=x&&b=2":         "a=1&&&b=2",
		"&key=x&a=1":              "&a=1",
		"&a=1&monkey":             "&a=1&monkey",
		"key=x&":                  "",
		"key=a=b&c==":             "c==",
		"alt=sse&key=x&$x=a+b%20": "alt=sse&$x=a+b%20",
	} {
		if got := withoutKey(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

// Removing the key leaves exactly the other pairs, in order, byte for byte.
func TestWithoutKeyProperty(t *testing.T) {
	pair := rapid.OneOf(
		rapid.StringMatching(`[a-z%&=+;~]{0,12}`),
		rapid.SampledFrom([]string{"key=1", "%6bey=2", "k%65y", "key", "=key", "alt=sse", "", "keys=3", "%zz=key"}),
	)
	rapid.Check(t, func(t *rapid.T) {
		raw := strings.Join(rapid.SliceOfN(pair, 0, 8).Draw(t, "pairs"), "&")
		checkWithoutKey(t, raw)
	})
}

func checkWithoutKey(t interface{ Fatalf(string, ...any) }, raw string) {
	pairs := strings.Split(raw, "&")
	kept := slices.DeleteFunc(slices.Clone(pairs), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		return err == nil && decoded == "key"
	})
	got := withoutKey(raw)
	if want := strings.Join(kept, "&"); got != want {
		t.Fatalf("%q: %q, want %q", raw, got, want)
	}
}

// FuzzQuery holds the query's two readers against net/url: no key survives, no
// other pair changes, and a model that net/url sees is seen here.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "key=a", "a=1&%6bey=b&c", "model=m&MODEL=n", "a=1;model=x", "&&=&key", "m%6fdel=%zz", "a=b;c&key=d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		checkWithoutKey(t, raw)
		values, _ := url.ParseQuery(withoutKey(raw))
		if len(values["key"]) > 0 {
			t.Errorf("a key is left in %q", raw)
		}
		seen := queryValues(raw, memberModel)
		values, _ = url.ParseQuery(raw)
		for name, vv := range values {
			if !strings.EqualFold(name, memberModel) {
				continue
			}
			for _, v := range vv {
				if !slices.Contains(seen, v) {
					t.Errorf("%q of %q is not in %q", v, raw, seen)
				}
			}
		}
	})
}

func TestQueryValues(t *testing.T) {
	for raw, want := range map[string][]string{
		"":                       nil,
		"a=model":                nil,
		"model=m":                {"m"},
		"model":                  {""},
		"Model=m&mODEL=n":        {"m", "n"},
		"m%6fdel=a%2Fb":          {"a/b"},
		"model=a+b":              {"a b"},
		"model=%zz":              {"%zz"},
		"a=1;model=m":            {"m"},
		"model=a;model=b":        {"a", "b"},
		"models=x&model[]=y&x=z": nil,
	} {
		if got := queryValues(raw, memberModel); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

func TestWithoutKeyProtocols(t *testing.T) {
	for name, tc := range map[string]struct {
		lines []string
		want  string
	}{
		"none":   {nil, ""},
		"plain":  {[]string{"realtime, openai-beta.realtime-v1"}, "realtime, openai-beta.realtime-v1"},
		"key":    {[]string{"realtime, openai-insecure-api-key." + tokenA + ",openai-beta.realtime-v1"}, "realtime, openai-beta.realtime-v1"},
		"lines":  {[]string{"openai-insecure-api-key." + tokenA, " realtime ,,", "x"}, "realtime, x"},
		"tenant": {[]string{"openai-organization.o, realtime, openai-project.p"}, "realtime"},
		"only":   {[]string{"openai-insecure-api-key." + tokenA}, ""},
	} {
		if got := withoutKeyProtocols(tc.lines); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
