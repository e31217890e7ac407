package adminapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
)

// A project's prices are read, kept as they were written, changed and removed.
func TestProjectPrices(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		h := newHarness()
		p := h.project(`{"name":"priced","prices":{"openai":{"gpt-*":{"input":"1.50","output":2}}}}`)
		target := "/manage/projects/" + id(p)
		want := map[string]any{"openai": map[string]any{"gpt-*": map[string]any{"input": "1.50", "output": 2.0}}}
		if read := must[object](h, 200, "GET", target, ""); fmt.Sprint(read["prices"]) != fmt.Sprint(want) {
			t.Errorf("prices are %v", read["prices"])
		}
		records := len(h.audits())
		must[object](h, 200, "PATCH", target, `{"prices":{"openai": {"gpt-*": {"input":"1.50","output":2}}}}`)
		if n := len(h.audits()); n != records {
			t.Errorf("%d records of no change", n-records)
		}
		changed := must[object](h, 200, "PATCH", target, `{"prices":{"*":{"*":{"free":true}}}}`)
		if fmt.Sprint(changed["prices"]) != "map[*:map[*:map[free:true]]]" {
			t.Errorf("prices are %v", changed["prices"])
		}
		for _, none := range []string{"null", "{}"} {
			must[object](h, 200, "PATCH", target, `{"prices":{"*":{"*":{"free":true}}}}`)
			if read := must[object](h, 200, "PATCH", target, `{"prices":`+none+`}`); read["prices"] != nil {
				t.Errorf("prices are %v after %s", read["prices"], none)
			}
		}
		for body, words := range map[string]string{
			`{"prices":7}`: "prices:",
			`{"prices":{"openai":{"gpt":{"input":-1}}}}`:       "prices:",
			`{"prices":{"openai":{"gpt":{"inputs":"1"}}}}`:     "prices:",
			`{"prices":"` + strings.Repeat("x", 64<<10) + `"}`: "at most 65536",
		} {
			h.refused("invalid_request", words, "PATCH", target, body)
		}
	})
}

// Tokens have no prices.
func TestTokenPrices(t *testing.T) {
	h := newHarness(t)
	p := h.project(`{"name":"p"}`)
	h.refused("unknown_field", "prices", "POST", "/manage/tokens", `{"project_id":"`+id(p)+`","prices":{}}`)
}
