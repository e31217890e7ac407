package adminapi_test

import (
	"fmt"
	"sync"
	"testing"
)

// TestConcurrentPatches changes different fields of one object at the same time:
// each must survive the others.
func TestConcurrentPatches(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"A"}`))
	tk := id(h.token(`{"project_id":"` + p + `"}`))
	before := len(h.audits())
	patches := map[string][]string{
		"/manage/projects/" + p: {`{"name":"B"}`, `{"is_active":false}`, `{"use_shared_keys":false}`, `{"allowed_models":["m"]}`,
			`{"allowed_providers":["openai"]}`, `{"allowed_endpoints":["/v1/models"]}`, `{"allowed_ips":["10.0.0.1"]}`, `{"metadata":{"a":"b"}}`},
		"/manage/tokens/" + tk: {`{"name":"B"}`, `{"is_active":false}`, `{"expires_at":null}`, `{"allowed_models":["m"]}`,
			`{"allowed_providers":["openai"]}`, `{"allowed_endpoints":["/v1/models"]}`, `{"allowed_ips":["10.0.0.1"]}`, `{"metadata":{"a":"b"}}`},
	}
	var wg sync.WaitGroup
	for path, bodies := range patches {
		for _, body := range bodies {
			wg.Go(func() {
				if res := h.call("PATCH", path, body); res.status != 200 {
					t.Errorf("PATCH %s %s: %d %s", path, body, res.status, res.body)
				}
			})
		}
	}
	wg.Wait()
	for path := range patches {
		got := must[object](h, 200, "GET", path, "")
		for name, want := range map[string]string{"name": "B", "is_active": "false", "allowed_models": "[m]", "allowed_providers": "[openai]",
			"allowed_endpoints": "[/v1/models]", "allowed_ips": "[10.0.0.1]", "metadata": "map[a:b]"} {
			if fmt.Sprint(got[name]) != want {
				t.Errorf("%s: %s is %v", path, name, got[name])
			}
		}
	}
	if got := len(h.audits()) - before; got != 16 {
		t.Errorf("16 changes left %d audit entries", got)
	}
}

// TestConcurrentFirsts races for what may exist once.
func TestConcurrentFirsts(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"A"}`))
	tk := id(h.token(`{"project_id":"` + p + `"}`))
	for _, race := range []struct{ target, body string }{
		{"/manage/projects", `{"name":"B"}`},
		{"/manage/projects/" + p + "/keys", `{"provider":"openai","api_key":"k"}`},
		{"/manage/tokens/" + tk + "/rotate", ""},
	} {
		var mu sync.Mutex
		statuses := map[int]int{}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				res := h.call("POST", race.target, race.body)
				mu.Lock()
				defer mu.Unlock()
				statuses[res.status]++
			})
		}
		wg.Wait()
		if statuses[201] != 1 || statuses[409] != 7 {
			t.Errorf("%s: %v", race.target, statuses)
		}
	}
}
