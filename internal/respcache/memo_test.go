package respcache_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// TestMemo: what is remembered is what would be made again, whoever asks, and of
// more bodies than there is room for.
func TestMemo(t *testing.T) {
	t.Parallel()
	without := ignore(t, "user")
	memo, other := respcache.NewMemo(without), respcache.NewMemo(nil)
	bodies := []string{
		``, `{}`, ` {} `, `{"user":"a","n":1}`, `{"user":"b","n":1}`, `{"n": 1}`, `{"n":1.0}`, `{"n":1,"n":1}`, `[`, `"\ud800"`,
		strings.Repeat("[", 200) + strings.Repeat("]", 200),
	}
	want := make(map[string]respcache.Body)
	for i := range 20_000 {
		bodies = append(bodies, fmt.Sprintf(`{"n":%d,"user":"%d"}`, i/2, i))
	}
	for _, body := range bodies {
		want[body] = respcache.JSONBody([]byte(body), without, "application/json")
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 2 {
				for _, body := range bodies {
					if memo.JSONBody([]byte(body), "application/json") != want[body] {
						t.Errorf("%s has another identity from memory", body)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, body := range bodies[:20] {
		if other.JSONBody([]byte(body)) != respcache.JSONBody([]byte(body), nil) || memo.JSONBody([]byte(body), "b") != respcache.JSONBody([]byte(body), without, "b") {
			t.Errorf("%s has the identity that it has elsewhere", body)
		}
	}
}

func TestMemoAllocations(t *testing.T) {
	memo, body := respcache.NewMemo(nil), []byte(`{"model":"gpt-4o-mini","messages":[]}`)
	memo.JSONBody(body)
	if n := testing.AllocsPerRun(100, func() { memo.JSONBody(body, "application/json") }); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
