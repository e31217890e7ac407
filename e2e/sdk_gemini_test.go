package e2e

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/genai"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

func newGemini(t *testing.T, p *proxy, token string, proto protocol) *genai.Client {
	t.Helper()
	client, err := genai.NewClient(bounded(t), &genai.ClientConfig{
		APIKey: token, Backend: genai.BackendGeminiAPI, HTTPClient: p.client(proto),
		HTTPOptions: genai.HTTPOptions{BaseURL: p.url + "/gemini"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestGeminiSDK(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	for _, proto := range allProtocols {
		t.Run(string(proto), func(t *testing.T) {
			t.Parallel()
			a := p.account(t)
			client := newGemini(t, p, a.token, proto)
			ctx := bounded(t)
			t.Run("generate", func(t *testing.T) { useGenerate(t, ctx, client) })
			t.Run("generate stream", func(t *testing.T) { useGenerateStream(t, ctx, client, a, sim) })
			t.Run("functions", func(t *testing.T) { useFunctions(t, ctx, client) })
		})
	}
}

func useGenerate(t *testing.T, ctx context.Context, client *genai.Client) {
	answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("hello there"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Text(); !strings.Contains(got, "hello there") {
		t.Errorf("answer %q", got)
	}
	if answer.UsageMetadata.PromptTokenCount != 3 {
		t.Errorf("usage %+v", answer.UsageMetadata)
	}
}

func useGenerateStream(t *testing.T, ctx context.Context, client *genai.Client, a *account, sim *provider) {
	release := sim.hold(t, a.key)
	var text strings.Builder
	var finish genai.FinishReason
	chunks := 0
	for chunk, err := range client.Models.GenerateContentStream(ctx, "sim-chunks-30", genai.Text("hello"), nil) {
		if err != nil {
			t.Fatal(err)
		}
		chunks++
		release()
		text.WriteString(chunk.Text())
		finish = chunk.Candidates[0].FinishReason
	}
	if chunks < 30 || finish != genai.FinishReasonStop || len(strings.Fields(text.String())) != 30 {
		t.Errorf("%d chunks, %s, %q", chunks, finish, text.String())
	}
}

func useFunctions(t *testing.T, ctx context.Context, client *genai.Client) {
	config := &genai.GenerateContentConfig{Tools: []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{
		Name: "weather", Parameters: &genai.Schema{
			Type: genai.TypeObject, Properties: map[string]*genai.Schema{"city": {Type: genai.TypeString}}, Required: []string{"city"},
		},
	}}}}}
	answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("weather in Berlin?"), config)
	if err != nil {
		t.Fatal(err)
	}
	calls := answer.FunctionCalls()
	if len(calls) != 1 || calls[0].Name != "weather" || calls[0].Args["city"] == nil {
		t.Errorf("calls %+v", calls)
	}
}
