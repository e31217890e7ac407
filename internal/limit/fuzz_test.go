package limit_test

import (
	"encoding/json"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

// decode makes an answer of Redis's kind from JSON.
func decode(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	var convert func(any) any
	convert = func(v any) any {
		switch v := v.(type) {
		case float64:
			return int64(v)
		case []any:
			for i := range v {
				v[i] = convert(v[i])
			}
		}
		return v
	}
	return convert(v)
}

// FuzzAnswer: whatever answers in Redis's place, the result is an error or makes
// sense.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"[1,5,1,3,9,7,0]", "[0,5,0,10,9,7,4]", "[-1,5]", "[-2,5]", "[]", "null", `["1"]`, "[1,2,0,0,0,0,0]", `["ab",0,1,2,3,1]`, `["ab",9,1,2,0,1]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		answer := decode(text)
		values, _ := answer.([]any)
		d, err := limit.ParseTake(answer, 1)
		if err == nil {
			if len(values) != 7 || d.Admitted != (values[2] == int64(1)) || d.Admitted != (values[0] == int64(1)) {
				t.Errorf("%s is taken for %+v", text, d)
			}
			if d.RetryAfter < 0 && !d.Never {
				t.Errorf("%s makes clients wait %s", text, d.RetryAfter)
			}
		}
		if nodes, err := limit.ParseBeat(answer); err == nil && (nodes < 1 || len(values) != 6) {
			t.Errorf("%s is taken for %d nodes", text, nodes)
		}
	})
}
