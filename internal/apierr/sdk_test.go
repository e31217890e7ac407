package apierr_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"google.golang.org/genai"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// serve answers every request with answer and counts them.
func serve(t *testing.T, answer http.HandlerFunc) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, requests
}

func refuse(d apierr.Dialect, e *apierr.Error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { apierr.Write(w, d, e, requestID) }
}

func stream(frames ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, strings.Join(frames, ""))
	}
}

func openAIClient(url string) openai.Client {
	return openai.NewClient(openaioption.WithBaseURL(url+"/v1"), openaioption.WithAPIKey("sk-wt-x"), openaioption.WithMaxRetries(1))
}

func anthropicClient(url string) anthropic.Client {
	return anthropic.NewClient(anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey("sk-wt-x"), anthropicoption.WithMaxRetries(1))
}

var (
	chat    = openai.ChatCompletionNewParams{Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}}
	message = anthropic.MessageNewParams{Model: "m", MaxTokens: 1, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hi"))}}
)

// sdkErrors are the errors that SDKs get, and how many requests they then make.
func sdkErrors() []struct {
	err      *apierr.Error
	requests int64
} {
	unavailable := apierr.New(503, apierr.StoreUnavailable, "try again")
	unavailable.RetryAfter = 1 // as short as can be said
	return []struct {
		err      *apierr.Error
		requests int64
	}{
		{apierr.New(401, apierr.InvalidToken, "the token is not valid"), 1},
		{apierr.New(403, apierr.ModelNotAllowed, `the model "o3" is not allowed here`).WithParam("model"), 1},
		{apierr.New(404, apierr.EndpointNotFound, "no such endpoint"), 1},
		{apierr.New(413, apierr.RequestTooLarge, "too large"), 1},
		{unavailable, 2},
	}
}

func TestOpenAISDKParsesErrors(t *testing.T) {
	for _, tc := range sdkErrors() {
		t.Run(tc.err.Code, func(t *testing.T) {
			url, requests := serve(t, refuse(apierr.OpenAI, tc.err))
			client := openAIClient(url)
			_, err := client.Chat.Completions.New(t.Context(), chat)
			var got *openai.Error
			if !errors.As(err, &got) {
				t.Fatalf("error %v is not the SDK's", err)
			}
			if got.StatusCode != tc.err.Status || got.Code != tc.err.Code || got.Message != tc.err.Message || got.Param != tc.err.Param || got.Type == "" {
				t.Errorf("the SDK read %d %s %q %q %q", got.StatusCode, got.Code, got.Message, got.Param, got.Type)
			}
			if id := got.Response.Header.Get("x-request-id"); id != requestID {
				t.Errorf("request id %q", id)
			}
			if n := requests.Load(); n != tc.requests {
				t.Errorf("%d requests, want %d", n, tc.requests)
			}
		})
	}
}

func TestAnthropicSDKParsesErrors(t *testing.T) {
	for _, tc := range sdkErrors() {
		t.Run(tc.err.Code, func(t *testing.T) {
			url, requests := serve(t, refuse(apierr.Anthropic, tc.err))
			client := anthropicClient(url)
			_, err := client.Messages.New(t.Context(), message)
			var got *anthropic.Error
			if !errors.As(err, &got) {
				t.Fatalf("error %v is not the SDK's", err)
			}
			if got.StatusCode != tc.err.Status || got.RequestID != requestID || got.Type() == "" {
				t.Errorf("the SDK read %d %q %q", got.StatusCode, got.RequestID, got.Type())
			}
			if want := string(apierr.Anthropic.Body(tc.err, requestID)); got.RawJSON() != want {
				t.Errorf("the SDK kept %s, want %s", got.RawJSON(), want)
			}
			if n := requests.Load(); n != tc.requests {
				t.Errorf("%d requests, want %d", n, tc.requests)
			}
		})
	}
}

func TestGeminiSDKParsesErrors(t *testing.T) {
	for _, tc := range sdkErrors()[:4] {
		t.Run(tc.err.Code, func(t *testing.T) {
			url, requests := serve(t, refuse(apierr.Gemini, tc.err))
			client, err := genai.NewClient(t.Context(), &genai.ClientConfig{
				APIKey: "sk-wt-x", Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: url},
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Models.GenerateContent(t.Context(), "m", genai.Text("hi"), nil)
			var got genai.APIError
			if !errors.As(err, &got) {
				t.Fatalf("error %v is not the SDK's", err)
			}
			if got.Code != tc.err.Status || got.Message != tc.err.Message || got.Status == "" || len(got.Details) != 1 || got.Details[0]["reason"] != tc.err.Code {
				t.Errorf("the SDK read %+v", got)
			}
			if n := requests.Load(); n != tc.requests {
				t.Errorf("%d requests, want %d", n, tc.requests)
			}
		})
	}
}

// A stream that fails after its first byte must not pass for complete.
func TestSDKsSeeTheErrorThatEndsAStream(t *testing.T) {
	failed := apierr.New(502, apierr.UpstreamError, "the provider went away")
	t.Run("OpenAI chat", func(t *testing.T) {
		url, _ := serve(t, stream(`data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hel"}}]}`+"\n\n",
			string(apierr.OpenAI.Event(failed, requestID))))
		client := openAIClient(url)
		s := client.Chat.Completions.NewStreaming(t.Context(), chat)
		n := 0
		for s.Next() {
			n++
		}
		if err := s.Err(); n != 1 || err == nil || !strings.Contains(err.Error(), "the provider went away") {
			t.Errorf("after %d chunks: %v", n, err)
		}
	})
	t.Run("OpenAI responses", func(t *testing.T) {
		url, _ := serve(t, stream(`event: response.output_text.delta`+"\n"+`data: {"type":"response.output_text.delta","delta":"Hel"}`+"\n\n",
			string(apierr.OpenAIResponses.Event(failed, requestID))))
		client := openAIClient(url)
		s := client.Responses.NewStreaming(t.Context(), responses.ResponseNewParams{Model: "m"})
		var last responses.ResponseStreamEventUnion
		for s.Next() {
			last = s.Current()
		}
		if last.Type != "error" || last.Code != apierr.UpstreamError || last.Message != "the provider went away" || s.Err() != nil {
			t.Errorf("the last event is %s %s %q, %v", last.Type, last.Code, last.Message, s.Err())
		}
	})
	t.Run("Anthropic messages", func(t *testing.T) {
		url, _ := serve(t, stream(`event: content_block_delta`+"\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}`+"\n\n",
			string(apierr.Anthropic.Event(failed, requestID))))
		client := anthropicClient(url)
		s := client.Messages.NewStreaming(t.Context(), message)
		n := 0
		for s.Next() {
			n++
		}
		if err := s.Err(); n != 1 || err == nil || !strings.Contains(err.Error(), "the provider went away") {
			t.Errorf("after %d events: %v", n, err)
		}
	})
}
