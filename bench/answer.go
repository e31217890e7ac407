package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What the canned provider answers: a chat completion of ordinary size, and a
// stream of one.

// providerKey is what the provider wants to see: a request that arrives without
// it was not prepared for it.
const providerKey = "sk-upstream-0123456789abcdefghijklmnopqrstuvwxyz"

const chatPath = "/v1/chat/completions"

// header is one header line.
type header struct{ name, value string }

// answerHeaders are those of a provider behind a CDN, besides Date,
// Content-Type and Content-Length: 14 with them.
var answerHeaders = []header{
	{"Openai-Organization", "user-0123456789abcdef"},
	{"Openai-Processing-Ms", "412"},
	{"Openai-Version", "2020-10-01"},
	{"X-Ratelimit-Limit-Requests", "10000"},
	{"X-Ratelimit-Limit-Tokens", "2000000"},
	{"X-Ratelimit-Remaining-Requests", "9999"},
	{"X-Ratelimit-Remaining-Tokens", "1999482"},
	{"X-Request-Id", "req_0123456789abcdef0123456789abcdef"},
	{"Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload"},
	{"Cf-Cache-Status", "DYNAMIC"},
	{"Cf-Ray", "8f0123456789abcd-FRA"},
}

// answerDate is when the provider started: an old answer would not be stored.
var answerDate = time.Now().UTC().Format(http.TimeFormat)

// answerBody is a completion of about 1 KB.
var answerBody = `{"id":"chatcmpl-0123456789abcdefghijklmnopqrs","object":"chat.completion","created":1700000000,"model":"gpt-4o-mini-2024-07-18",` +
	`"choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("A proxy passes things on. ", 22) + `","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":512,"completion_tokens":128,"total_tokens":640,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},` +
	`"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_0123456789"}`

// streamFrames is how many events a stream has, its end not counted.
const streamFrames = 200

var (
	frame     = `data: {"id":"chatcmpl-0123456789abcdefghijklmnopqrs","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	lastFrame = "data: [DONE]\n\n"

	streamLength = streamFrames*len(frame) + len(lastFrame)
	shortLength  = len(frame) + len(lastFrame)
)

// pace is the pause between the frames of a paced stream: short beside real
// ones, long enough that every frame comes alone.
const pace = 2 * time.Millisecond

// bodyLength is how long the body of an answer is.
func (k kind) bodyLength() int {
	switch k {
	case whole:
		return len(answerBody)
	case short:
		return shortLength
	default:
		return streamLength
	}
}

// http1Head is the head of an HTTP/1.1 answer; a negative length means chunks.
func http1Head(status, contentType string, length int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\nDate: %s\r\nContent-Type: %s\r\n", status, answerDate, contentType)
	if length < 0 {
		b.WriteString("Transfer-Encoding: chunked\r\n")
	} else {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", length)
	}
	for _, h := range answerHeaders {
		fmt.Fprintf(&b, "%s: %s\r\n", h.name, h.value)
	}
	b.WriteString("\r\n")
	return b.String()
}

func chunk(data string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(data), data) }

// refusalBody is an error as this proxy tells it, for a `respond` of the same size.
const refusalBody = `{"error":{"message":"the token is missing, malformed, unknown or used twice","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`
