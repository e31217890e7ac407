//go:build !race

package gateway

import (
	"strings"
	"testing"
)

// The race detector makes pools forget, so these ceilings hold without it.

func TestInspectAllocations(t *testing.T) {
	filler := strings.Repeat(`{"role":"user","content":"\u00e9 \ud800"},`, 50)
	for name, tc := range map[string]struct {
		body  string
		names []string
		want  float64
	}{
		"nothing to read": {`{"messages":[` + filler + `{}],"n":1,"stream":true}`, nil, 0},
		"a model":         {`{"model":"gpt-4o","messages":[` + filler + `{}]}`, nil, 1}, // its text
		"two params":      {`{"model":"gpt-4o","temperature":0.7,"user":"u","messages":[` + filler + `{}]}`, askedFor, 4},
	} {
		body := []byte(tc.body)
		if n := testing.AllocsPerRun(200, func() { inspectJSON(body, tc.names, nil) }); n > tc.want {
			t.Errorf("%s: %v allocations, want at most %v", name, n, tc.want)
		}
	}
}

func TestCredentialAllocations(t *testing.T) {
	r := credentialRequest(t, "/v1/models?key="+tokenA, "Authorization: Bearer "+tokenA, "X-Api-Key: "+tokenA)
	if n := testing.AllocsPerRun(200, func() { clientCredential(r) }); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
