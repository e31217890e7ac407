package simulator_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

func (p provider) openAI() *openai.Client {
	client := openai.NewClient(option.WithBaseURL(p.URL+"/v1"), option.WithAPIKey(testKey),
		option.WithHTTPClient(p.Client()), option.WithMaxRetries(0))
	return &client
}

var weather = openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
	Name: "get_weather",
	Parameters: openai.FunctionParameters{
		"type": "object",
		"properties": map[string]any{
			"city": map[string]any{"type": "string"},
			"unit": map[string]any{"type": "string", "enum": []string{"celsius", "kelvin"}},
			"days": map[string]any{"type": "integer"},
		},
	},
})

const weatherArguments = `{"city":"Berlin","days":1,"unit":"celsius"}`

func chatParams(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: model,
		Messages: []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage("Be kind."), openai.UserMessage("What is the weather?"),
		},
	}
}

func TestOpenAIChat(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	params := chatParams("gpt-4o")
	params.N = openai.Int(2)
	got, err := p.openAI().Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Choices) != 2 || got.Choices[1].FinishReason != "stop" || got.Model != "gpt-4o" {
		t.Errorf("got %s", got.RawJSON())
	}
	u := got.Usage
	if u.PromptTokens != 7 || u.CompletionTokens != 48 || u.TotalTokens != 55 {
		t.Errorf("usage %s", u.RawJSON())
	}
	if !u.PromptTokensDetails.JSON.CachedTokens.Valid() || !u.CompletionTokensDetails.JSON.ReasoningTokens.Valid() {
		t.Errorf("zero details are not spelled out: %s", u.RawJSON())
	}
}

func TestOpenAIChatLimit(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	params := chatParams("gpt-4o")
	params.MaxCompletionTokens = openai.Int(5)
	got, err := p.openAI().Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if got.Choices[0].FinishReason != "length" || got.Usage.CompletionTokens != 5 || len(strings.Fields(got.Choices[0].Message.Content)) != 5 {
		t.Errorf("got %s", got.RawJSON())
	}
}

func TestOpenAIChatStream(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	whole, err := p.openAI().Chat.Completions.New(t.Context(), chatParams("gpt-4o"))
	if err != nil {
		t.Fatal(err)
	}
	for _, asked := range []bool{true, false} {
		params := chatParams("gpt-4o")
		if asked {
			params.StreamOptions.IncludeUsage = openai.Bool(true)
		}
		stream := p.openAI().Chat.Completions.NewStreaming(t.Context(), params)
		var acc openai.ChatCompletionAccumulator
		usages := 0
		for stream.Next() {
			chunk := stream.Current()
			acc.AddChunk(chunk)
			if chunk.JSON.Usage.Valid() {
				usages++
			}
			if (chunk.JSON.Usage.Raw() != "") != asked {
				t.Errorf("asked for usage: %v, chunk %s", asked, chunk.RawJSON())
			}
			if chunk.JSON.Usage.Valid() && len(chunk.Choices) != 0 {
				t.Errorf("usage beside choices: %s", chunk.RawJSON())
			}
		}
		if stream.Err() != nil {
			t.Fatal(stream.Err())
		}
		if acc.Choices[0].Message.Content != whole.Choices[0].Message.Content {
			t.Errorf("streamed %q, whole %q", acc.Choices[0].Message.Content, whole.Choices[0].Message.Content)
		}
		if asked && (usages != 1 || acc.Usage.TotalTokens != whole.Usage.TotalTokens) {
			t.Errorf("%d usages, %s", usages, acc.Usage.RawJSON())
		}
	}
}

func TestOpenAIChatTools(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	params := chatParams("gpt-4o")
	params.Tools = []openai.ChatCompletionToolUnionParam{weather}
	got, err := p.openAI().Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	calls := got.Choices[0].Message.ToolCalls
	if len(calls) != 1 || calls[0].Function.Arguments != weatherArguments || got.Choices[0].FinishReason != "tool_calls" {
		t.Fatalf("got %s", got.RawJSON())
	}

	stream := p.openAI().Chat.Completions.NewStreaming(t.Context(), params)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if stream.Err() != nil || acc.Choices[0].Message.ToolCalls[0].Function.Arguments != weatherArguments {
		t.Errorf("%v, streamed %+v", stream.Err(), acc.Choices)
	}

	params.Messages = append(params.Messages, got.Choices[0].Message.ToParam(), openai.ToolMessage("sunny", calls[0].ID))
	got, err = p.openAI().Chat.Completions.New(t.Context(), params)
	if err != nil || !strings.HasPrefix(got.Choices[0].Message.Content, "Thanks to the tool") {
		t.Errorf("after the tool: %v, %s", err, got.RawJSON())
	}

	params = chatParams("gpt-4o")
	params.Tools = []openai.ChatCompletionToolUnionParam{weather}
	params.ToolChoice.OfAuto = openai.String("none")
	got, err = p.openAI().Chat.Completions.New(t.Context(), params)
	if err != nil || len(got.Choices[0].Message.ToolCalls) != 0 {
		t.Errorf("tool_choice none: %v, %s", err, got.RawJSON())
	}
}

func TestOpenAIResponses(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	params := responses.ResponseNewParams{
		Model: "gpt-4o-reason",
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Hello")},
	}
	got, err := p.openAI().Responses.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if got.Usage.OutputTokensDetails.ReasoningTokens != 16 || got.Usage.OutputTokens != 40 || !strings.HasPrefix(got.OutputText(), "You said") {
		t.Errorf("got %s", got.RawJSON())
	}
	text, final := "", responses.Response{}
	order := int64(-1)
	stream := p.openAI().Responses.NewStreaming(t.Context(), params)
	for stream.Next() {
		ev := stream.Current()
		if ev.SequenceNumber != order+1 {
			t.Errorf("sequence number %d after %d", ev.SequenceNumber, order)
		}
		order = ev.SequenceNumber
		switch ev.Type {
		case "response.output_text.delta":
			text += ev.Delta
		case "response.completed":
			final = ev.Response
		}
	}
	if stream.Err() != nil || text != got.OutputText() || final.OutputText() != text || final.Usage.TotalTokens != got.Usage.TotalTokens {
		t.Errorf("%v: streamed %q, final %s", stream.Err(), text, final.RawJSON())
	}

	params.MaxOutputTokens = openai.Int(4)
	got, err = p.openAI().Responses.New(t.Context(), params)
	if err != nil || got.Status != "incomplete" || got.IncompleteDetails.Reason != "max_output_tokens" || got.Usage.OutputTokens != 4 {
		t.Errorf("limit: %v, %s", err, got.RawJSON())
	}
}

func TestOpenAIResponsesTools(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	params := responses.ResponseNewParams{
		Model: "gpt-4o",
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Weather?")},
		Tools: []responses.ToolUnionParam{responses.ToolParamOfFunction("get_weather", weather.OfFunction.Function.Parameters, true)},
	}
	got, err := p.openAI().Responses.New(t.Context(), params)
	if err != nil || got.Output[0].Type != "function_call" || got.Output[0].Arguments.OfString != weatherArguments {
		t.Fatalf("%v: got %s", err, got.RawJSON())
	}
	arguments := ""
	stream := p.openAI().Responses.NewStreaming(t.Context(), params)
	for stream.Next() {
		if ev := stream.Current(); ev.Type == "response.function_call_arguments.delta" {
			arguments += ev.Delta
		}
	}
	if stream.Err() != nil || arguments != weatherArguments {
		t.Errorf("%v: streamed %s", stream.Err(), arguments)
	}
}

func TestOpenAIModels(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	page, err := p.openAI().Models.List(t.Context())
	if err != nil || len(page.Data) == 0 || page.Data[0].ID != "gpt-4o" {
		t.Fatalf("%v, %+v", err, page)
	}
	for _, m := range page.Data {
		if one, err := p.openAI().Models.Get(t.Context(), m.ID); err != nil || one.ID != m.ID {
			t.Errorf("%s: %v", m.ID, err)
		}
	}
	_, err = p.openAI().Models.Get(t.Context(), "sim-nothing")
	if e := (*openai.Error)(nil); !errors.As(err, &e) || e.StatusCode != http.StatusNotFound || e.Code != "model_not_found" {
		t.Errorf("unknown model: %v", err)
	}
}

func TestOpenAIHeaders(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	resp, _ := p.post(t, "/v1/chat/completions", generations[0].body("gpt-4o", false))
	for name, want := range map[string]string{
		"x-request-id": "req_", "openai-processing-ms": "", "openai-version": "2020-10-01", "openai-organization": "org-sim",
		"x-ratelimit-limit-requests": "10000", "x-ratelimit-remaining-requests": "9999", "x-ratelimit-reset-requests": "6ms",
		"x-ratelimit-limit-tokens": "2000000", "x-ratelimit-remaining-tokens": "1999994", "x-ratelimit-reset-tokens": "",
	} {
		if got := resp.Header.Get(name); got == "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
