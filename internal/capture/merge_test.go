package capture_test

import (
	"strings"
	"testing"
)

// stream frames payloads as server-sent events.
func stream(payloads ...string) string {
	return "data: " + strings.Join(payloads, "\n\ndata: ") + "\n\n"
}

func TestMerge(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"chat, everything": {
			stream(
				`{"id":"","object":"","model":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}`,
				`{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":1,"delta":{"role":"assistant","content":"B"},"finish_reason":null}],"usage":null}`,
				`{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"Hm"},"logprobs":{"content":[{"token":"a"}],"refusal":null}}]}`,
				`{"choices":[{"index":0,"delta":{"content":"A","reasoning_content":"m."},"logprobs":{"content":[{"token":"b"}]}},{"index":1,"delta":{"refusal":"No"}}]}`,
				`{"choices":[{"index":1,"delta":{"refusal":"pe"},"finish_reason":"stop"},null]}`,
				`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
				`{"choices":[],"usage":{"total_tokens":0}}`,
				`[DONE]`,
			),
			`{"id":"c","object":"chat.completion","model":"m","choices":[` +
				`{"index":0,"message":{"role":"assistant","content":"A","reasoning_content":"Hmm."},"logprobs":{"content":[{"token":"a"},{"token":"b"}],"refusal":null},"finish_reason":"stop"},` +
				`{"index":1,"message":{"role":"assistant","content":"B","refusal":"Nope"},"finish_reason":"stop"}],` +
				`"prompt_filter_results":[{"prompt_index":0}],"usage":{"total_tokens":0}}`,
		},
		"chat, parallel tools, in any order": {
			stream(
				`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"y","type":"function","function":{"name":"g","arguments":""}}]}}]}`,
				`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":"{\"a"}}]}}]}`,
				`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"type":"function","function":{"name":"g","arguments":"{}"}},{"index":0,"function":{"arguments":"\":1}"}}]}}]}`,
			),
			`{"choices":[{"index":0,"message":{"tool_calls":[` +
				`{"id":"x","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},` +
				`{"id":"y","type":"function","function":{"name":"g","arguments":"{}"}}]}}]}`,
		},
		"chat, an error in the middle": {
			stream(`{"choices":[{"index":0,"delta":{"content":"A"}}]}`, `{"error":{"message":"overloaded"}}`),
			`{"choices":[{"index":0,"message":{"content":"A"}}],"error":{"message":"overloaded"}}`,
		},
		"completion": {
			stream(`{"object":"text_completion","choices":[{"text":"On","index":0,"logprobs":{"tokens":["On"]}}]}`, `{"choices":[{"text":"ce","index":0,"logprobs":{"tokens":["ce"]},"finish_reason":"length"}]}`),
			`{"object":"text_completion","choices":[{"text":"Once","index":0,"logprobs":{"tokens":["On","ce"]},"finish_reason":"length"}]}`,
		},
		"messages": {
			"\ufeff" + stream(
				`{"type":"message_start","message":{"id":"m","content":[],"stop_reason":null,"usage":{"input_tokens":12,"output_tokens":1}}}`,
				`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
				`{"type":"ping"}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m."}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}`,
				`{"type":"content_block_stop","index":0}`,
				`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
				`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hi"}}`,
				`{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"cited_text":"x"}}}`,
				`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}`,
				`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}`,
				`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"city\":"}}`,
				`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"Berlin\"}"}}`,
				`{"type":"something_new"}`,
				`{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":88,"server_tool_use":{"web_search_requests":1}}}`,
				`{"type":"message_stop"}`,
			),
			`{"id":"m","content":[{"type":"thinking","thinking":"Hmm.","signature":"c2ln"},{"type":"text","text":"Hi","citations":[{"cited_text":"x"}]},` +
				`{"type":"tool_use","id":"t","name":"f","input":{"city":"Berlin"}}],"stop_reason":"tool_use",` +
				`"usage":{"input_tokens":12,"output_tokens":88,"server_tool_use":{"web_search_requests":1}}}`,
		},
		"messages, broken off inside of a tool's input": {
			stream(`{"type":"message_start","message":{"id":"m"}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"city"}}`,
				`{"type":"error","error":{"type":"overloaded_error"}}`),
			`{"id":"m","error":{"type":"overloaded_error"},"content":[{"type":"tool_use","input":"{\"city"}]}`,
		},
		"responses": {
			stream(`{"type":"response.created","response":{"id":"r","output":[]}}`, `{"type":"response.output_text.delta","output_index":0,"delta":"x"}`,
				`{"type":"response.completed","response":{"id":"r","status":"completed","output":[{"type":"message"}],"usage":{"total_tokens":3}}}`),
			`{"id":"r","status":"completed","output":[{"type":"message"}],"usage":{"total_tokens":3}}`,
		},
		"responses, broken off": {
			stream(`{"type":"response.created","response":{"id":"r","status":"in_progress","output":[],"error":null}}`,
				`{"type":"response.output_item.added","output_index":0,"item":{"id":"rs","type":"reasoning","summary":[]}}`,
				`{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"Hm"}`,
				`{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"m"}`,
				`{"type":"response.output_item.added","output_index":2,"item":{"id":"f","type":"function_call","arguments":""}}`,
				`{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"a\""}`,
				`{"type":"response.output_item.added","output_index":1,"item":{"id":"t","type":"message","content":[]}}`,
				`{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"He"}`,
				`{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"llo"}`,
				`{"type":"response.refusal.delta","output_index":1,"content_index":1,"delta":"No"}`,
				`{"type":"error","sequence_number":9,"code":"server_error","message":"m"}`),
			`{"id":"r","status":"in_progress","output":[{"id":"rs","type":"reasoning","summary":[{"type":"summary_text","text":"Hmm"}]},` +
				`{"id":"t","type":"message","content":[{"type":"output_text","text":"Hello"},{"type":"refusal","refusal":"No"}]},` +
				`{"id":"f","type":"function_call","arguments":"{\"a\""}],"error":{"code":"server_error","message":"m"}}`,
		},
		"gemini": {
			stream(
				`{"candidates":[{"content":{"parts":[{"text":"Hm","thought":true}],"role":"model"}}],"usageMetadata":{"promptTokenCount":1}}`,
				`{"candidates":[{"content":{"parts":[{"text":"m","thought":true},{"text":"Pa"}],"role":"model"},"index":0}]}`,
				`{"candidates":[{"content":{"parts":[{"text":"ris","thoughtSignature":"eA"}]}},{"content":{"parts":[{"text":"2"}]},"index":1}]}`,
				`{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}},{"text":""}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2}}`),
			`{"candidates":[{"content":{"parts":[{"text":"Hmm","thought":true},{"text":"Paris","thoughtSignature":"eA"},{"functionCall":{"name":"f","args":{}}}],"role":"model"},"index":0,"finishReason":"STOP"},` +
				`{"content":{"parts":[{"text":"2"}]},"index":1}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2}}`,
		},
		"transcript": {
			stream(`{"type":"transcript.text.delta","delta":"Hello "}`, `{"type":"transcript.text.delta","delta":"there"}`, `{"type":"transcript.text.done","text":"Hello there","usage":{"total_tokens":18}}`),
			`{"text":"Hello there","usage":{"total_tokens":18}}`,
		},
		"transcript, broken off":   {stream(`{"type":"transcript.text.delta","delta":"Hello "}`, `{"type":"transcript.text.delta","delta":"th"}`), `{"text":"Hello th"}`},
		"unknown":                  {": hello\n\n" + stream(`{"a":1}`, "two\ndata: lines", `[DONE]`), `[{"a":1},"two\nlines"]`},
		"data in lines":            {"event: x\r\ndata: {\"choices\":\r\ndata: []}\r\n\r\n", `{"choices":[]}`},
		"no empty line at the end": {"data:{\"choices\":[{\"text\":\"a\"}]}\n\ndata:{\"choices\":[{\"text\":\"b\"}]}", `{"choices":[{"text":"ab"}]}`},
		"nothing":                  {": keep-alive\n\n", `[]`},
	} {
		t.Run(name, func(t *testing.T) {
			got, want := answered("/v1/x", tc.in), tc.want
			if strings.HasPrefix(name, "gemini") || strings.HasPrefix(name, "chat, e") {
				if !same(t, got, want) {
					t.Errorf("got\n%s, want\n%s", got, want)
				}
			} else if got != want {
				t.Errorf("got\n%s, want\n%s", got, want)
			}
		})
	}
}

// TestMergeHostile: what has not the form that its beginning promised is kept, all of it.
func TestMergeHostile(t *testing.T) {
	for _, payloads := range [][]string{
		{`{"choices":3}`},
		{`{"choices":[{"index":0,"delta":"x"}]}`, `{"choices":[{"index":0,"delta":{"content":"x"}}]}`},
		{`{"choices":[{"index":-0.5,"delta":{}}]}`},
		{`{"choices":[{"index":"0","delta":{}}]}`},
		{`{"choices":[3]}`},
		{`{"choices":[{"delta":{"content":"a"}}]}`, `{"choices":[{"delta":{"content":["b"]}}]}`},
		{`{"choices":[{"delta":` + strings.Repeat(`{"a":`, 9) + `1` + strings.Repeat(`}`, 9) + `}]}`},
		{`{"choices":[{"delta":{"tool_calls":[{"index":1e9,"id":"x"}]}}]}`},
		{`{"choices":[{"delta":{"content":"a"}}]}`, `"a string"`},
		{`{"type":"message_start","message":null}`},
		{`{"type":"message_start","message":{"content":5,"usage":[]}}`, `{"type":"message_delta","delta":[],"usage":3}`},
		{`{"type":"content_block_delta","index":0,"delta":null}`},
		{`{"type":"response.output_text.delta","output_index":[],"delta":"x"}`},
		{`{"type":"response.output_text.delta","output_index":0,"delta":4}`},
		{`{"type":"response.created","response":[]}`},
		{`{"candidates":[{"content":{"parts":[null]}}]}`},
		{`{"candidates":{"a":1}}`},
		{`{"type":"transcript.text.delta","delta":{}}`},
	} {
		want := "[" + strings.Join(payloads, ",") + "]"
		if got := answered("/v1/x", stream(payloads...)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
