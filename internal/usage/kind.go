package usage

import (
	"net/http"
	"strings"
)

// Kind is a form in which answers report usage.
type Kind uint8

// The kinds.
const (
	KindNone        Kind = iota // reports none
	KindChat                    // OpenAI's chat, legacy completions, embeddings and all that has their usage object
	KindGeminiChat              // the same as Gemini serves it, whose completion_tokens leave thinking out
	KindResponses               // OpenAI's responses
	KindImages                  // OpenAI's images
	KindTranscripts             // OpenAI's audio transcriptions and translations
	KindSpeech                  // OpenAI's audio speech
	KindRealtime                // OpenAI's WebSocket sessions, message by message
	KindOCR                     // Mistral's optical character recognition
	KindMessages                // Anthropic's messages
	KindGenerate                // Gemini's generateContent, streamed or not, embedContent and predict

	kinds // how many there are
)

// chatEndpoints end in what has a chat's usage object.
var chatEndpoints = []string{
	"/chat/completions", "/completions", "/embeddings", "/fim/completions", "/agents/completions", "/rerank", "/score",
	"/moderations", "/chat/moderations", "/classifications",
}

// KindOf is the kind of a request's answer, by its method and its endpoint as
// the provider package names it. What only looks something up has none, or it would be
// counted twice; but for a response, which may have run in the background. Counting
// tokens uses none.
func KindOf(method, endpoint string) Kind {
	switch {
	case method == http.MethodGet:
		return kindOfGet(endpoint)
	case method != http.MethodPost:
		return KindNone
	}
	if rest, ok := strings.CutPrefix(endpoint, "/v1beta/openai"); ok {
		if kind := kindOfOpenAI(rest); kind != KindChat {
			return kind
		}
		return KindGeminiChat
	}
	if rest, ok := strings.CutPrefix(endpoint, "/deployments/"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		return kindOfOpenAI("/" + rest)
	}
	if endpoint == "/v1/messages" {
		return KindMessages
	}
	if i := strings.LastIndexByte(endpoint, ':'); i >= 0 {
		switch endpoint[i+1:] {
		case "generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents", "predict":
			return KindGenerate
		}
		return KindNone
	}
	if rest, ok := strings.CutPrefix(endpoint, "/v1"); ok {
		return kindOfOpenAI(rest)
	}
	return KindNone
}

func kindOfGet(endpoint string) Kind {
	if endpoint == "/v1/realtime" || endpoint == "/realtime" {
		return KindRealtime
	}
	if id, ok := strings.CutPrefix(endpoint, "/v1/responses/"); ok && id != "" && !strings.Contains(id, "/") {
		return KindResponses
	}
	return KindNone
}

// kindOfOpenAI takes the path below the version or deployment.
func kindOfOpenAI(path string) Kind {
	for _, e := range chatEndpoints {
		if path == e {
			return KindChat
		}
	}
	switch path {
	case "/responses":
		return KindResponses
	case "/images/generations", "/images/edits", "/images/variations":
		return KindImages
	case "/audio/transcriptions", "/audio/translations":
		return KindTranscripts
	case "/audio/speech":
		return KindSpeech
	case "/conversations":
		return KindChat // Mistral's; OpenAI's have no usage
	case "/ocr":
		return KindOCR
	}
	if id, ok := strings.CutPrefix(path, "/conversations/"); ok && id != "" && !strings.Contains(id, "/") {
		return KindChat
	}
	return KindNone
}
