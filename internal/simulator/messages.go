package simulator

import "github.com/go-json-experiment/json/jsontext"

// messages answers POST /v1/messages.
func (c *call) messages() {
	req, ok := c.readMessages()
	if !ok {
		return
	}
	p := req.prompt()
	b, ok := c.begin(p.model, p.tokens())
	if !ok {
		return
	}
	a := c.compose(p, b)
	a.id = c.id("msg_")
	c.reply(p, b, a, &messagesForm{answer: a, requestID: c.requestID})
}

// countMessageTokens answers POST /v1/messages/count_tokens.
func (c *call) countMessageTokens() {
	req, ok := c.readMessages()
	if !ok {
		return
	}
	p := req.prompt()
	b, ok := c.begin(p.model, p.tokens())
	if !ok {
		return
	}
	c.body(b, "application/json", encode(object{"input_tokens", p.tokens()}))
}

// messagesForm writes Anthropic messages, see
// https://docs.anthropic.com/en/docs/build-with-claude/streaming.
type messagesForm struct {
	*answer
	requestID string
}

func (f *messagesForm) whole() object {
	block := object{"type", "text", "text", f.text()}
	if f.tool != nil {
		block = f.toolUse(jsontext.Value(f.tool.arguments))
	}
	return f.message(list{block}, f.stop(), f.usage.completion)
}

func (f *messagesForm) message(blocks list, stop any, output int) object {
	return object{
		"id", f.id, "type", "message", "role", "assistant", "model", f.model,
		"content", blocks, "stop_reason", stop, "stop_sequence", nil,
	}.with(!f.noUsage, "usage", append(f.inputUsage(), f.outputUsage(output)...).
		with(true, "cache_creation", object{"ephemeral_5m_input_tokens", 0, "ephemeral_1h_input_tokens", 0}).
		with(true, "service_tier", "standard").
		with(true, "inference_geo", "not_available"))
}

func (f *messagesForm) toolUse(input jsontext.Value) object {
	return object{"type", "tool_use", "id", "toolu_" + f.tool.id, "name", f.tool.name, "input", input}
}

func (f *messagesForm) stop() string {
	switch {
	case f.tool != nil:
		return "tool_use"
	case f.cut:
		return "max_tokens"
	}
	return "end_turn"
}

// inputUsage counts cached tokens apart: Anthropic's input_tokens excludes them.
func (f *messagesForm) inputUsage() object {
	return object{
		"input_tokens", f.usage.prompt - f.usage.cached,
		"cache_creation_input_tokens", 0,
		"cache_read_input_tokens", f.usage.cached,
	}
}

func (f *messagesForm) outputUsage(output int) object {
	return object{"output_tokens", output}.with(f.usage.reasoning > 0 && output >= f.usage.reasoning,
		"output_tokens_details", object{"thinking_tokens", f.usage.reasoning})
}

func (f *messagesForm) open() []frame {
	block := object{"type", "text", "text", ""}
	if f.tool != nil {
		block = f.toolUse(jsontext.Value("{}"))
	}
	return []frame{
		event("message_start", "message", f.message(list{}, nil, 1)),
		event("content_block_start", "index", 0, "content_block", block),
		event("ping"),
	}
}

func (f *messagesForm) piece(i int) []frame {
	delta := object{"type", "text_delta", "text", f.pieces[i]}
	if f.tool != nil {
		delta = object{"type", "input_json_delta", "partial_json", f.pieces[i]}
	}
	return []frame{event("content_block_delta", "index", 0, "delta", delta)}
}

func (f *messagesForm) end() []frame {
	delta := object{"type", "message_delta", "delta", object{"stop_reason", f.stop(), "stop_sequence", nil}}.
		with(!f.noUsage, "usage", append(f.inputUsage(), f.outputUsage(f.usage.completion)...))
	return []frame{
		event("content_block_stop", "index", 0),
		{event: "message_delta", data: encode(delta)},
		event("message_stop"),
	}
}

func (f *messagesForm) failure(p problem) frame {
	return frame{event: "error", data: encode(anthropic{}.problem(p, f.requestID))}
}

// event is an event whose data repeats its name as the type, which is the
// habit of Anthropic and of OpenAI's Responses API.
func event(name string, members ...any) frame {
	return frame{event: name, data: encode(append(object{"type", name}, members...))}
}
