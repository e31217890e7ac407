package simulator_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"google.golang.org/genai"
)

func (p provider) gemini(t *testing.T) *genai.Client {
	t.Helper()
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		APIKey: testKey, Backend: genai.BackendGeminiAPI, HTTPClient: p.Client(),
		HTTPOptions: genai.HTTPOptions{BaseURL: p.URL},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestGeminiGenerate(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{Chunks: 5})
	client := p.gemini(t)
	for _, model := range []string{"gemini-2.5-flash", "gemini-reason", "sim-cached"} {
		whole, err := client.Models.GenerateContent(t.Context(), model, genai.Text("What is the weather?"), nil)
		if err != nil {
			t.Fatal(err)
		}
		u := whole.UsageMetadata
		if u.PromptTokenCount != 5 || u.CandidatesTokenCount != 5 || (u.ThoughtsTokenCount == 16) != (model == "gemini-reason") ||
			u.TotalTokenCount != 10+u.ThoughtsTokenCount || (u.CachedContentTokenCount == 2) != (model == "sim-cached") {
			t.Errorf("%s: usage %+v", model, u)
		}
		text, last, chunks := "", int32(0), 0
		var finish genai.FinishReason
		for chunk, err := range client.Models.GenerateContentStream(t.Context(), model, genai.Text("What is the weather?"), nil) {
			if err != nil {
				t.Fatal(err)
			}
			if chunk.UsageMetadata.CandidatesTokenCount < last {
				t.Errorf("%s: usage is not cumulative", model)
			}
			text, last, finish, chunks = text+chunk.Text(), chunk.UsageMetadata.CandidatesTokenCount, chunk.Candidates[0].FinishReason, chunks+1
		}
		if text != whole.Text() || last != 5 || finish != genai.FinishReasonStop || chunks != 6 {
			t.Errorf("%s: streamed %q, %d tokens, %s, %d chunks", model, text, last, finish, chunks)
		}
	}
}

func TestGeminiJSONArrayStream(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{Chunks: 3})
	for _, prefix := range []string{"/v1beta", "/v1"} {
		resp, body := p.post(t, prefix+"/models/gemini-2.5-flash:streamGenerateContent", generations[4].body("", true))
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
			t.Errorf("content type %q", got)
		}
		if value(t, body, "3.candidates.0.finishReason") != "STOP" || value(t, body, "4") != absent {
			t.Errorf("got %s", body)
		}
	}
}

func TestGeminiTools(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	client := p.gemini(t)
	config := &genai.GenerateContentConfig{
		SystemInstruction: genai.NewContentFromText("Be kind.", genai.RoleUser),
		Tools: []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{{
			Name: "get_weather",
			Parameters: &genai.Schema{Type: genai.TypeObject, Properties: map[string]*genai.Schema{
				"city": {Type: genai.TypeString}, "hours": {Type: genai.TypeArray, Items: &genai.Schema{Type: genai.TypeInteger}},
			}},
		}}}},
	}
	contents := genai.Text("Weather?")
	whole, err := client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", contents, config)
	if err != nil {
		t.Fatal(err)
	}
	calls := whole.FunctionCalls()
	if len(calls) != 1 || calls[0].Args["city"] != "Berlin" || whole.UsageMetadata.PromptTokenCount != 4 {
		t.Fatalf("got %+v", whole)
	}
	streamed := 0
	for chunk, err := range client.Models.GenerateContentStream(t.Context(), "gemini-2.5-flash", contents, config) {
		if err != nil {
			t.Fatal(err)
		}
		streamed += len(chunk.FunctionCalls())
	}
	if streamed != 1 {
		t.Errorf("%d calls streamed", streamed)
	}
	contents = append(contents, whole.Candidates[0].Content,
		genai.NewContentFromFunctionResponse("get_weather", map[string]any{"weather": "sunny"}, genai.RoleUser))
	whole, err = client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", contents, config)
	if err != nil || !strings.HasPrefix(whole.Text(), "Thanks to the tool") {
		t.Errorf("after the tool: %v, %+v", err, whole)
	}
	config.ToolConfig = &genai.ToolConfig{FunctionCallingConfig: &genai.FunctionCallingConfig{Mode: genai.FunctionCallingConfigModeNone}}
	whole, err = client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", genai.Text("Weather?"), config)
	if err != nil || len(whole.FunctionCalls()) != 0 {
		t.Errorf("mode NONE: %v, %+v", err, whole)
	}
}

func TestGeminiCandidatesAndLimit(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	got, err := p.gemini(t).Models.GenerateContent(t.Context(), "gemini-2.5-flash", genai.Text("Hello"),
		&genai.GenerateContentConfig{CandidateCount: 2, MaxOutputTokens: 4})
	if err != nil || len(got.Candidates) != 2 || got.Candidates[1].FinishReason != genai.FinishReasonMaxTokens || got.UsageMetadata.CandidatesTokenCount != 8 {
		t.Errorf("%v, %+v", err, got)
	}
}

func TestGeminiEmbedAndCount(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	client := p.gemini(t)
	got, err := client.Models.EmbedContent(t.Context(), "gemini-embedding-001",
		append(genai.Text("one"), genai.Text("two")...), &genai.EmbedContentConfig{OutputDimensionality: genai.Ptr[int32](16)})
	if err != nil || len(got.Embeddings) != 2 || len(got.Embeddings[0].Values) != 16 {
		t.Errorf("%v, %+v", err, got)
	}
	_, body := p.post(t, "/v1beta/models/gemini-embedding-001:embedContent", `{"content":{"parts":[{"text":"one"}]},"outputDimensionality":16}`)
	if value(t, body, "embedding.values.15") == absent || value(t, body, "embedding.values.16") != absent {
		t.Errorf("got %s", body)
	}
	count, err := client.Models.CountTokens(t.Context(), "gemini-2.5-flash", genai.Text("12345"), nil)
	if err != nil || count.TotalTokens != 2 {
		t.Errorf("%v, %+v", err, count)
	}
}

func TestGeminiModels(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	page, err := p.gemini(t).Models.List(t.Context(), nil)
	if err != nil || page.Items[0].Name != "models/gemini-2.5-pro" {
		t.Errorf("%v, %+v", err, page)
	}
	one, err := p.gemini(t).Models.Get(t.Context(), "gemini-2.5-pro", nil)
	if err != nil || one.Name != "models/gemini-2.5-pro" {
		t.Errorf("%v, %+v", err, one)
	}
	resp, _ := p.post(t, "/v1beta/models/gemini-2.5-pro:dance", "{}")
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("unknown method: %d", resp.StatusCode)
	}
}

func TestGeminiRateLimit(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	_, err := p.gemini(t).Models.GenerateContent(t.Context(), "sim-error-429", genai.Text("Hello"), nil)
	if e := (genai.APIError{}); !errors.As(err, &e) || e.Code != 429 || e.Status != "RESOURCE_EXHAUSTED" || len(e.Details) != 2 {
		t.Errorf("got %#v", err)
	}
}
