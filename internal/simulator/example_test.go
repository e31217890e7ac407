package simulator_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

func Example() {
	sim := simulator.New(simulator.Options{Pace: -1})
	provider := httptest.NewServer(sim)
	defer provider.Close()

	r, _ := http.NewRequest(http.MethodPost, provider.URL+"/v1/chat/completions", strings.NewReader(
		`{"model":"sim-chunks-3","messages":[{"role":"user","content":"Hello"}],"stream":true}`))
	r.Header.Set("Authorization", "Bearer sk-anything")
	resp, err := provider.Client().Do(r)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(strings.Count(string(body), `"content":`), "chunks with content")
	fmt.Println(sim.Stats().CompletionTokens, "tokens")
	// Output:
	// 4 chunks with content
	// 3 tokens
}
