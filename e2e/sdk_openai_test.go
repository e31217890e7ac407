package e2e

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// newOpenAI is the official client, pointed at the proxy as its users do.
func newOpenAI(p *proxy, token string, proto protocol) openai.Client {
	return openai.NewClient(option.WithBaseURL(p.url+"/v1"), option.WithAPIKey(token),
		option.WithHTTPClient(p.client(proto)), option.WithMaxRetries(0))
}

func userMessage(text string) []openai.ChatCompletionMessageParamUnion {
	return []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}
}

func TestOpenAISDK(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	for _, proto := range allProtocols {
		t.Run(string(proto), func(t *testing.T) {
			t.Parallel()
			a := p.account(t)
			client := newOpenAI(p, a.token, proto)
			ctx := bounded(t)
			for name, use := range map[string]func(*testing.T, context.Context, openai.Client, *account, *provider){
				"chat": useChat, "chat stream": useChatStream, "tools": useChatTools, "large body": useChatLarge,
				"responses": useResponses, "responses stream": useResponsesStream,
				"embeddings": useEmbeddings, "models": useModels, "audio upload": useTranscription,
			} {
				t.Run(name, func(t *testing.T) { use(t, ctx, client, a, sim) })
			}
		})
	}
}

func useChat(t *testing.T, ctx context.Context, client openai.Client, _ *account, _ *provider) {
	answer, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{Model: "gpt-4o-mini", Messages: userMessage("hello there")})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Choices[0].Message.Content; !strings.Contains(got, "hello there") {
		t.Errorf("answer %q", got)
	}
	if answer.Usage.PromptTokens != 3 || answer.Usage.CompletionTokens == 0 {
		t.Errorf("usage %+v", answer.Usage)
	}
}

func useChatStream(t *testing.T, ctx context.Context, client openai.Client, a *account, sim *provider) {
	release := sim.hold(t, a.key)
	stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{Model: "sim-chunks-30", Messages: userMessage("hello")})
	defer stream.Close()
	var acc openai.ChatCompletionAccumulator
	chunks := 0
	for stream.Next() {
		acc.AddChunk(stream.Current())
		if chunks++; chunks == 2 {
			release() // the rest is sent only when the beginning has arrived
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if chunks < 30 || acc.Choices[0].FinishReason != "stop" || len(strings.Fields(acc.Choices[0].Message.Content)) != 30 {
		t.Errorf("%d chunks, %+v", chunks, acc.Choices)
	}
}

func useChatTools(t *testing.T, ctx context.Context, client openai.Client, _ *account, _ *provider) {
	params := openai.ChatCompletionNewParams{
		Model: "gpt-4o", Messages: userMessage("weather in Berlin?"),
		Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: "weather", Parameters: openai.FunctionParameters{
				"type": "object", "properties": object{"city": object{"type": "string"}}, "required": []string{"city"},
			},
		})},
	}
	answer, err := client.Chat.Completions.New(ctx, params)
	if err != nil {
		t.Fatal(err)
	}
	calls := answer.Choices[0].Message.ToolCalls
	if len(calls) != 1 || calls[0].Function.Name != "weather" || !strings.Contains(calls[0].Function.Arguments, "city") {
		t.Fatalf("tool calls %+v", calls)
	}
	params.Messages = append(params.Messages, answer.Choices[0].Message.ToParam(), openai.ToolMessage("sunny", calls[0].ID))
	if answer, err = client.Chat.Completions.New(ctx, params); err != nil {
		t.Fatal(err)
	}
	if got := answer.Choices[0].Message.Content; !strings.Contains(got, "tool") {
		t.Errorf("answer %q", got)
	}
}

func useChatLarge(t *testing.T, ctx context.Context, client openai.Client, a *account, sim *provider) {
	text := strings.Repeat("lorem ipsum ", 1<<20/12)
	answer, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{Model: "sim-big-1048576", Messages: userMessage(text)})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(answer.Choices[0].Message.Content); got != 1<<20 {
		t.Errorf("answer of %d bytes", got)
	}
	if got := sim.last(t, a.key).bytes; got < int64(len(text)) {
		t.Errorf("the provider got %d bytes", got)
	}
}

func useResponses(t *testing.T, ctx context.Context, client openai.Client, _ *account, _ *provider) {
	answer, err := client.Responses.New(ctx, responses.ResponseNewParams{
		Model: "gpt-4.1", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hello there")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.OutputText(); !strings.Contains(got, "hello there") {
		t.Errorf("answer %q", got)
	}
}

func useResponsesStream(t *testing.T, ctx context.Context, client openai.Client, a *account, sim *provider) {
	release := sim.hold(t, a.key)
	stream := client.Responses.NewStreaming(ctx, responses.ResponseNewParams{
		Model: "sim-chunks-20", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hello")},
	})
	defer stream.Close()
	var types []string
	var text strings.Builder
	for stream.Next() {
		event := stream.Current()
		types = append(types, event.Type)
		if event.Type == "response.output_text.delta" {
			text.WriteString(event.Delta)
		}
		release()
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if len(types) < 20 || types[0] != "response.created" || types[len(types)-1] != "response.completed" || len(strings.Fields(text.String())) != 20 {
		t.Errorf("events %v, text %q", types, text.String())
	}
}

func useEmbeddings(t *testing.T, ctx context.Context, client openai.Client, _ *account, _ *provider) {
	answer, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{
		Model: "text-embedding-3-small", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "b"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) != 2 || len(answer.Data[1].Embedding) == 0 {
		t.Errorf("%d embeddings", len(answer.Data))
	}
}

func useModels(t *testing.T, ctx context.Context, client openai.Client, _ *account, _ *provider) {
	page, err := client.Models.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	model, err := client.Models.Get(ctx, "gpt-4o")
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Data) == 0 || model.ID != "gpt-4o" {
		t.Errorf("%d models, %q", len(page.Data), model.ID)
	}
}

func useTranscription(t *testing.T, ctx context.Context, client openai.Client, a *account, sim *provider) {
	recording := bytes.Repeat([]byte("RIFF"), 1<<18)
	answer, err := client.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{
		Model: "whisper-1", File: openai.File(bytes.NewReader(recording), "speech.wav", "audio/wav"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Text == "" {
		t.Error("no text")
	}
	if got := sim.last(t, a.key).bytes; got < int64(len(recording)) {
		t.Errorf("the provider got %d bytes", got)
	}
}
