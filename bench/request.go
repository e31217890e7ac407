package main

import (
	"fmt"
	"strings"
)

// kind is the kind of answer that a request asks for.
type kind string

const (
	whole  kind = "whole"  // one JSON object
	stream kind = "stream" // all frames without pauses
	paced  kind = "paced"  // all frames, each followed by a pause
	short  kind = "short"  // one frame
)

// mark is the member by which the provider recognises a kind.
func (k kind) mark() string { return `"user":"` + string(k) + `"` }

// question is the body of a request, about 2 KB.
func question(k kind) string {
	return fmt.Sprintf(`{"model":"gpt-4o-mini","stream":%t,%s,"messages":[{"role":"system","content":"Answer in one sentence."},{"role":"user","content":"%s"}],"temperature":0.7,"max_tokens":256}`,
		k != whole, k.mark(), strings.Repeat("What does a proxy do with a request? ", 51))
}

// chatRequest is what an SDK sends: 12 headers besides Host, and the body.
func chatRequest(host, credential string, k kind) []byte {
	body := question(k)
	headers := []header{
		{"Host", host},
		{"Authorization", "Bearer " + credential},
		{"Content-Type", "application/json"},
		{"Content-Length", fmt.Sprint(len(body))},
		{"Accept", "application/json"},
		{"Accept-Encoding", "gzip, deflate"},
		{"User-Agent", "OpenAI/Python 2.8.0"},
		{"X-Stainless-Lang", "python"},
		{"X-Stainless-Package-Version", "2.8.0"},
		{"X-Stainless-Os", "Linux"},
		{"X-Stainless-Arch", "x64"},
		{"X-Stainless-Runtime", "CPython"},
		{"X-Stainless-Runtime-Version", "3.13.1"},
	}
	var b strings.Builder
	b.WriteString("POST " + chatPath + " HTTP/1.1\r\n")
	for _, h := range headers {
		b.WriteString(h.name + ": " + h.value + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return []byte(b.String())
}
