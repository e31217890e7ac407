package simulator_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

func (p provider) anthropic() *anthropic.Client {
	client := anthropic.NewClient(option.WithBaseURL(p.URL), option.WithAPIKey(testKey),
		option.WithHTTPClient(p.Client()), option.WithMaxRetries(0))
	return &client
}

func messageParams(model string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: anthropic.Model(model), MaxTokens: 1024,
		System:   []anthropic.TextBlockParam{{Text: "Be kind."}},
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("What is the weather?"))},
	}
}

func weatherTool() []anthropic.ToolUnionParam {
	return []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{
		Name: "get_weather",
		InputSchema: anthropic.ToolInputSchemaParam{Properties: map[string]any{
			"city": map[string]any{"type": "string"},
		}},
	}}}
}

// streamMessage accumulates a streamed message.
func streamMessage(t *testing.T, p provider, params anthropic.MessageNewParams) (anthropic.Message, []string) {
	t.Helper()
	var m anthropic.Message
	var types []string
	stream := p.anthropic().Messages.NewStreaming(t.Context(), params)
	for stream.Next() {
		ev := stream.Current()
		types = append(types, ev.Type)
		if err := m.Accumulate(ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	return m, types
}

func TestAnthropicMessages(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{Chunks: 5})
	for _, model := range []string{"claude-sonnet-4-5", "sim-cached", "claude-reason"} {
		whole, err := p.anthropic().Messages.New(t.Context(), messageParams(model))
		if err != nil {
			t.Fatal(err)
		}
		if whole.StopReason != "end_turn" || len(strings.Fields(whole.Content[0].Text)) != 5 {
			t.Errorf("%s: got %s", model, whole.RawJSON())
		}
		u := whole.Usage
		if u.InputTokens+u.CacheReadInputTokens != 7 || (u.CacheReadInputTokens == 3) != (model == "sim-cached") {
			t.Errorf("%s: usage %s", model, u.RawJSON())
		}
		if (u.OutputTokensDetails.ThinkingTokens > 0) != (model == "claude-reason") || u.OutputTokens-u.OutputTokensDetails.ThinkingTokens != 5 {
			t.Errorf("%s: usage %s", model, u.RawJSON())
		}
		streamed, types := streamMessage(t, p, messageParams(model))
		if streamed.Content[0].Text != whole.Content[0].Text || streamed.Usage.OutputTokens != u.OutputTokens || streamed.Usage.InputTokens != u.InputTokens {
			t.Errorf("%s: streamed %+v, whole %s", model, streamed, whole.RawJSON())
		}
		if got := strings.Join(types, " "); !strings.HasPrefix(got, "message_start content_block_start") ||
			!strings.HasSuffix(got, "content_block_delta content_block_stop message_delta message_stop") {
			t.Errorf("%s: events %s", model, got)
		}
	}
}

func TestAnthropicTools(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	params := messageParams("claude-sonnet-4-5")
	params.Tools = weatherTool()
	whole, err := p.anthropic().Messages.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	streamed, _ := streamMessage(t, p, params)
	for _, m := range []anthropic.Message{*whole, streamed} {
		if m.StopReason != "tool_use" || m.Content[0].Name != "get_weather" || string(m.Content[0].Input) != `{"city":"Berlin"}` {
			t.Errorf("got %+v", m)
		}
	}
	params.Messages = append(params.Messages, whole.ToParam(),
		anthropic.NewUserMessage(anthropic.NewToolResultBlock(whole.Content[0].ID, "sunny", false)))
	whole, err = p.anthropic().Messages.New(t.Context(), params)
	if err != nil || !strings.HasPrefix(whole.Content[0].Text, "Thanks to the tool") {
		t.Errorf("after the tool: %v, %s", err, whole.RawJSON())
	}
}

func TestAnthropicLimit(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	params := messageParams("claude-sonnet-4-5")
	params.MaxTokens = 3
	got, err := p.anthropic().Messages.New(t.Context(), params)
	if err != nil || got.StopReason != "max_tokens" || got.Usage.OutputTokens != 3 {
		t.Errorf("%v, %s", err, got.RawJSON())
	}
}

func TestAnthropicCountTokens(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	got, err := p.anthropic().Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{
		Model: "claude-sonnet-4-5", Messages: messageParams("").Messages,
	})
	if err != nil || got.InputTokens != 5 {
		t.Errorf("%v, %+v", err, got)
	}
}

func TestAnthropicModels(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	page, err := p.anthropic().Models.List(t.Context(), anthropic.ModelListParams{})
	if err != nil || !strings.HasPrefix(page.Data[0].ID, "claude") || page.Data[0].DisplayName == "" || page.Data[0].CreatedAt.IsZero() {
		t.Errorf("%v, %+v", err, page)
	}
	if one, err := p.anthropic().Models.Get(t.Context(), "claude-x", anthropic.ModelGetParams{}); err != nil || one.ID != "claude-x" {
		t.Errorf("%v, %+v", err, one)
	}
}

func TestAnthropicVersionIsRequired(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for _, path := range []string{"/v1/messages", "/v1/messages/count_tokens"} {
		r := p.request(t, http.MethodPost, path, generations[3].body("claude", false))
		r.Header.Del("anthropic-version")
		resp, body, _ := p.do(t, r)
		if resp.StatusCode != http.StatusBadRequest || value(t, body, "error.message") != "anthropic-version: header is required" {
			t.Errorf("%s: got %d: %s", path, resp.StatusCode, body)
		}
	}
}

func TestAnthropicErrorAndHeaders(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	_, err := p.anthropic().Messages.New(t.Context(), messageParams("sim-error-529"))
	e := (*anthropic.Error)(nil)
	if !errors.As(err, &e) || e.StatusCode != 529 || !strings.HasPrefix(e.RequestID, "req_") {
		t.Fatalf("got %v", err)
	}
	h := e.Response.Header
	if !strings.Contains(e.RawJSON(), `"request_id":"`+h.Get("request-id")+`"`) {
		t.Errorf("request id %q, body %s", h.Get("request-id"), e.RawJSON())
	}
	for _, kind := range []string{"requests", "tokens", "input-tokens", "output-tokens"} {
		if _, err := time.Parse(time.RFC3339, h.Get("anthropic-ratelimit-"+kind+"-reset")); err != nil {
			t.Error(err)
		}
		if h.Get("anthropic-ratelimit-"+kind+"-remaining") == "" {
			t.Errorf("no remaining %s", kind)
		}
	}
	stream := p.anthropic().Messages.NewStreaming(t.Context(), messageParams("sim-error-midstream"))
	for stream.Next() {
	}
	if err := stream.Err(); err == nil || !strings.Contains(err.Error(), "api_error") {
		t.Errorf("the SDK does not see the error in the stream: %v", err)
	}
}
