package gateway

import (
	"slices"
	"strings"
	"testing"
)

func text(s string) member    { return member{present: true, simple: true, str: true, text: s} }
func literal(s string) member { return member{present: true, simple: true, text: s} }

// The members that bodies are searched for besides model and stream.
var askedFor = []string{"user", "temperature"}

func TestInspectReads(t *testing.T) {
	for name, tc := range map[string]struct {
		body   string
		model  member
		stream bool
		params []member
	}{
		"nothing":               {body: `{}`},
		"whitespace":            {body: " \r\n\t{ \"model\" : \"m\" }\r\n ", model: text("m")},
		"model":                 {body: `{"messages":[],"model":"gpt-4o"}`, model: text("gpt-4o")},
		"empty model":           {body: `{"model":""}`, model: text("")},
		"escaped name":          {body: `{"\u006dod\u0065l":"m"}`, model: text("m")},
		"escaped value":         {body: `{"model":"\u0067pt\/\n\u00e9"}`, model: text("gpt/\né")},
		"surrogate pair":        {body: `{"model":"\ud83d\ude00"}`, model: text("😀")},
		"number":                {body: `{"model":4.50e1}`, model: literal("4.50e1")},
		"huge number":           {body: `{"model":1e999999}`, model: literal("1e999999")},
		"long number":           {body: `{"model":` + strings.Repeat("9", 5000) + `}`, model: literal(strings.Repeat("9", 5000))},
		"null":                  {body: `{"model":null}`, model: literal("null")},
		"object":                {body: `{"model":{"model":"m"}}`, model: member{present: true}},
		"array":                 {body: `{"model":["m"]}`, model: member{present: true}},
		"stream":                {body: `{"stream":true}`, stream: true},
		"stream false":          {body: `{"stream":false}`},
		"stream as text":        {body: `{"stream":"true"}`},
		"stream as number":      {body: `{"stream":1}`},
		"params":                {body: `{"temperature":0.7,"user":"u"}`, params: []member{text("u"), literal("0.7")}},
		"bool param":            {body: `{"user":true}`, params: []member{literal("true"), {}}},
		"nested model":          {body: `{"a":{"model":"x","Model":"y","model":"z"},"model":"m"}`, model: text("m")},
		"nested repetition":     {body: `{"a":{"b":1,"b":2}}`},
		"other repetition":      {body: `{"a":1,"a":2}`},
		"lone surrogate":        {body: `{"model":"m","messages":[{"content":"\ud800"}]}`, model: text("m")},
		"lone surrogate key":    {body: `{"model":"m","a":{"\udfff":1}}`, model: text("m")},
		"lone surrogate member": {body: `{"\udc00\ud800":1,"model":"m"}`, model: text("m")},
		"NUL in a value":        {body: `{"model":"a\u0000b"}`, model: text("a\x00b")},
		"look-alike":            {body: `{"modeI":"x","mοdel":"y","model ":"z"}`},
		"deep, allowed":         {body: `{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			in, problem := inspectJSON([]byte(tc.body), askedFor, nil)
			if tc.params == nil {
				tc.params = make([]member, len(askedFor))
			}
			if problem != scanOK || in.model != tc.model || in.stream != tc.stream || !slices.Equal(in.params, tc.params) {
				t.Errorf("%+v (problem %d), want model %+v, stream %t, params %+v", in, problem, tc.model, tc.stream, tc.params)
			}
		})
	}
}

func TestInspectRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	for name, tc := range map[string]struct {
		body string
		want scanProblem
	}{
		"empty":                      {``, scanNotJSON},
		"whitespace":                 {` `, scanNotJSON},
		"array":                      {`[{"model":"m"}]`, scanNotJSON},
		"string":                     {`"model"`, scanNotJSON},
		"null":                       {`null`, scanNotJSON},
		"cut":                        {`{"model":"m"`, scanNotJSON},
		"cut in a name":              {`{"mod`, scanNotJSON},
		"cut in a value":             {`{"model":"m`, scanNotJSON},
		"trailing comma":             {`{"model":"m",}`, scanNotJSON},
		"trailing byte":              {`{"model":"m"}x`, scanNotJSON},
		"trailing NUL":               {"{\"model\":\"m\"}\x00", scanNotJSON},
		"two objects":                {`{"model":"m"}{"model":"n"}`, scanNotJSON},
		"two lines":                  {"{\"model\":\"m\"}\n{\"model\":\"n\"}", scanNotJSON},
		"byte order mark":            {"\ufeff{\"model\":\"m\"}", scanNotJSON},
		"UTF-16":                     {"\xfe\xff\x00{\x00}", scanNotJSON},
		"record separator":           {"\x1e{\"model\":\"m\"}", scanNotJSON},
		"comment":                    {`{/**/"model":"m"}`, scanNotJSON},
		"single quotes":              {`{'model':'m'}`, scanNotJSON},
		"bare name":                  {`{model:"m"}`, scanNotJSON},
		"name of a number":           {`{1:"m"}`, scanNotJSON},
		"invalid UTF-8 in a value":   {"{\"model\":\"m\xff\"}", scanNotJSON},
		"invalid UTF-8 elsewhere":    {"{\"model\":\"m\",\"a\":[\"\xc0\xaf\"]}", scanNotJSON},
		"invalid UTF-8 in a name":    {"{\"model\xff\":\"m\"}", scanNotJSON},
		"encoded surrogate":          {"{\"a\":\"\xed\xa0\x80\"}", scanNotJSON},
		"lone surrogate in model":    {`{"model":"m\ud800"}`, scanNotJSON},
		"invalid escape":             {`{"model":"\x41"}`, scanNotJSON},
		"control character":          {"{\"model\":\"a\nb\"}", scanNotJSON},
		"invalid number":             {`{"model":01}`, scanNotJSON},
		"NaN":                        {`{"model":NaN}`, scanNotJSON},
		"deep arrays":                {`{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, scanNotJSON},
		"deep objects":               {deep, scanNotJSON},
		"deep, unclosed":             {`{"a":` + strings.Repeat("[", 1<<20), scanNotJSON},
		"repeated model":             {`{"model":"a","model":"a"}`, scanRepeated},
		"repeated, escaped":          {`{"model":"a","m\u006Fdel":"b"}`, scanRepeated},
		"repeated stream":            {`{"stream":true,"stream":true}`, scanRepeated},
		"repeated param":             {`{"user":"a","x":1,"user":"b"}`, scanRepeated},
		"Model":                      {`{"Model":"m"}`, scanAmbiguous},
		"MODEL beside model":         {`{"model":"m","MODEL":"n"}`, scanAmbiguous},
		"escaped Model":              {`{"\u004dodel":"m"}`, scanAmbiguous},
		"long s":                     {`{"ſtream":true}`, scanAmbiguous},
		"long s, escaped":            {`{"\u017ftream":true}`, scanAmbiguous},
		"long s in a param":          {`{"u\u017fer":"x"}`, scanAmbiguous},
		"Temperature":                {`{"TEMPERATURE":2}`, scanAmbiguous},
		"ambiguous before not JSON":  {`{"Model":"m"`, scanNotJSON},
		"ambiguous beside repeated":  {`{"MODEL":1,"model":1,"model":2}`, scanAmbiguous},
		"repeated before not UTF-8":  {"{\"model\":1,\"model\":2,\"a\":\"\xff\"}", scanNotJSON},
		"repeated before more bytes": {`{"model":1,"model":2}]`, scanNotJSON},
	} {
		t.Run(name, func(t *testing.T) {
			if in, problem := inspectJSON([]byte(tc.body), askedFor, nil); problem != tc.want {
				t.Errorf("problem %d, want %d (%+v)", problem, tc.want, in)
			}
		})
	}
}

// K (Kelvin sign) folds to k, ſ to s: two of them stretch a name to more than
// twice its length in bytes.
func TestInspectFoldsLikeUnicode(t *testing.T) {
	for _, name := range []string{"KKK", "kkK", "ſſſ", "SſS"} {
		for _, asked := range []string{"kkk", "sss"} {
			want := scanOK
			if strings.EqualFold(name, asked) {
				want = scanAmbiguous
			}
			if _, problem := inspectJSON([]byte(`{"`+name+`":1}`), []string{asked}, nil); problem != want {
				t.Errorf("%s, asked for %s: problem %d, want %d", name, asked, problem, want)
			}
		}
	}
}

// A rule may name stream itself, or a name that differs from another only in
// case: what is asked for exactly is no look-alike.
func TestInspectOfUnusualNames(t *testing.T) {
	in, problem := inspectJSON([]byte(`{"stream":true}`), []string{"stream"}, nil)
	if problem != scanOK || !in.stream || in.params[0] != literal("true") {
		t.Errorf("%+v, problem %d", in, problem)
	}
	if _, problem = inspectJSON([]byte(`{"stream":true,"stream":false}`), []string{"stream"}, nil); problem != scanRepeated {
		t.Errorf("problem %d, want repeated", problem)
	}
	in, problem = inspectJSON([]byte(`{"User":"a","user":"b"}`), []string{"User", "user"}, nil)
	if problem != scanOK || in.params[0] != text("a") || in.params[1] != text("b") {
		t.Errorf("%+v, problem %d", in, problem)
	}
}

// What a scan returns must not change when the body's buffer or the scanner is
// used again.
func TestInspectKeepsItsOwn(t *testing.T) {
	body := []byte(`{"model":"first","user":"\u0041lice"}`)
	in, _ := inspectJSON(body, askedFor, nil)
	for range 50 {
		inspectJSON([]byte(`{"model":"other","user":"\u0042obby"}`), askedFor, nil)
	}
	clear(body)
	if in.model.text != "first" || in.params[0].text != "Alice" {
		t.Errorf("%+v", in)
	}
}
