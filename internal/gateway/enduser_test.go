package gateway

import (
	"net/http"
	"strings"
	"testing"
)

func TestEndUser(t *testing.T) {
	long := strings.Repeat("é", 400)
	for name, tc := range map[string]struct {
		body  string
		names []string
		want  string
	}{
		"none":                  {`{"model":"m"}`, nil, ""},
		"user":                  {`{"user":"anna","model":"m"}`, nil, "anna"},
		"escaped":               {`{"user":"\u0061n\na \ud800"}`, nil, "an\na \ufffd"},
		"metadata":              {`{"metadata":{"a":{"user_id":"no"},"user_id":"anna"}}`, nil, "anna"},
		"metadata as text":      {`{"metadata":"user_id"}`, nil, ""},
		"metadata without it":   {`{"metadata":{"a":"user_id"}}`, nil, ""},
		"no string":             {`{"user":7,"metadata":{"user_id":{"a":"b"}}}`, nil, ""},
		"an object as user":     {`{"user":{"user_id":"anna"}}`, nil, ""},
		"deeper":                {`{"messages":[{"user":"no","metadata":{"user_id":"no"}}]}`, nil, ""},
		"the last one":          {`{"user":"a","metadata":{"user_id":"b"}}`, nil, "b"},
		"a rule on user":        {`{"user":"anna"}`, []string{"user"}, "anna"},
		"a rule on metadata":    {`{"metadata":{"user_id":"anna"}}`, []string{"metadata"}, "anna"},
		"long":                  {`{"user":"` + long + `"}`, nil, strings.Repeat("é", 128) + "…"},
		"long and all escapes":  {`{"user":"` + strings.Repeat(`\u00e9`, 400) + `"}`, nil, strings.Repeat("é", 128) + "…"},
		"cut inside an escape":  {`{"user":"abc` + strings.Repeat(`\u00e9`, 400) + `"}`, nil, "abc" + strings.Repeat("é", 126) + "…"},
		"nothing for the judge": {`{"user":"a","user":"b"}`, nil, "b"},
	} {
		in, problem := inspectJSON([]byte(tc.body), tc.names, nil)
		if problem != scanOK || in.endUser != tc.want {
			t.Errorf("%s: %v, %q, want %q", name, problem, in.endUser, tc.want)
		}
	}
	h := http.Header{"X-Llm-Proxy-User": {long}}
	if got := headerEndUser(h); got != strings.Repeat("é", 128)+"…" {
		t.Errorf("%q", got)
	}
}
