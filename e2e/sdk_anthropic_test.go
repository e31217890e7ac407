package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// newAnthropic is the official client; it adds /v1/messages itself.
func newAnthropic(p *proxy, token string, proto protocol) anthropic.Client {
	return anthropic.NewClient(option.WithBaseURL(p.url+"/anthropic"), option.WithAPIKey(token),
		option.WithHTTPClient(p.client(proto)), option.WithMaxRetries(0))
}

func claudeParams(model, text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: anthropic.Model(model), MaxTokens: 1024,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))},
	}
}

func TestAnthropicSDK(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	for _, proto := range allProtocols {
		t.Run(string(proto), func(t *testing.T) {
			t.Parallel()
			a := p.account(t)
			client := newAnthropic(p, a.token, proto)
			ctx := bounded(t)
			t.Run("messages", func(t *testing.T) { useMessages(t, ctx, client) })
			t.Run("messages stream", func(t *testing.T) { useMessagesStream(t, ctx, client, a, sim) })
			t.Run("tools", func(t *testing.T) { useClaudeTools(t, ctx, client) })
			t.Run("large body", func(t *testing.T) { useMessagesLarge(t, ctx, client, a, sim) })
		})
	}
}

func useMessages(t *testing.T, ctx context.Context, client anthropic.Client) {
	message, err := client.Messages.New(ctx, claudeParams("claude-sonnet-4-5", "hello there"))
	if err != nil {
		t.Fatal(err)
	}
	if got := message.Content[0].Text; !strings.Contains(got, "hello there") {
		t.Errorf("answer %q", got)
	}
	if message.Usage.InputTokens != 3 || message.Usage.OutputTokens == 0 {
		t.Errorf("usage %+v", message.Usage)
	}
}

func useMessagesStream(t *testing.T, ctx context.Context, client anthropic.Client, a *account, sim *provider) {
	release := sim.hold(t, a.key)
	stream := client.Messages.NewStreaming(ctx, claudeParams("sim-chunks-30", "hello"))
	defer stream.Close()
	var message anthropic.Message
	events := 0
	for stream.Next() {
		if err := message.Accumulate(stream.Current()); err != nil {
			t.Fatal(err)
		}
		events++
		release()
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if events < 30 || message.StopReason != "end_turn" || len(strings.Fields(message.Content[0].Text)) != 30 {
		t.Errorf("%d events, %+v", events, message)
	}
}

func useClaudeTools(t *testing.T, ctx context.Context, client anthropic.Client) {
	params := claudeParams("claude-sonnet-4-5", "weather in Berlin?")
	params.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{
		Name: "weather", InputSchema: anthropic.ToolInputSchemaParam{Properties: object{"city": object{"type": "string"}}, Required: []string{"city"}},
	}}}
	message, err := client.Messages.New(ctx, params)
	if err != nil {
		t.Fatal(err)
	}
	if message.StopReason != "tool_use" || message.Content[0].Name != "weather" || !strings.Contains(string(message.Content[0].Input), "city") {
		t.Fatalf("message %+v", message)
	}
	params.Messages = append(params.Messages, message.ToParam(),
		anthropic.NewUserMessage(anthropic.NewToolResultBlock(message.Content[0].ID, "sunny", false)))
	if message, err = client.Messages.New(ctx, params); err != nil {
		t.Fatal(err)
	}
	if got := message.Content[0].Text; got == "" {
		t.Error("no answer to the tool's result")
	}
}

func useMessagesLarge(t *testing.T, ctx context.Context, client anthropic.Client, a *account, sim *provider) {
	text := strings.Repeat("lorem ipsum ", 1<<20/12)
	message, err := client.Messages.New(ctx, claudeParams("sim-big-1048576", text))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(message.Content[0].Text); got != 1<<20 {
		t.Errorf("answer of %d bytes", got)
	}
	if got := sim.last(t, a.key).bytes; got < int64(len(text)) {
		t.Errorf("the provider got %d bytes", got)
	}
}
