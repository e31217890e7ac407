package simulator

// chat answers POST /v1/chat/completions.
func (c *call) chat() {
	var req chatRequest
	if !c.decode(&req) || !c.require("model", req.Model != "") || !c.require("messages", len(req.Messages) > 0) {
		return
	}
	if req.N > maxChoices {
		c.refuse(badRequest("Invalid 'n': integer above maximum value."))
		return
	}
	p := req.prompt()
	b, ok := c.begin(p.model, p.tokens())
	if !ok {
		return
	}
	a := c.compose(p, b)
	a.id = c.id("chatcmpl-")
	c.reply(p, b, a, &chatForm{answer: a, includeUsage: req.StreamOptions.IncludeUsage})
}

// maxChoices is OpenAI's own limit of n.
const maxChoices = 128

// require refuses a request that lacks a member.
func (c *call) require(param string, present bool) bool {
	if !present {
		c.refuse(missing(param))
	}
	return present
}

// chatForm writes chat.completion and chat.completion.chunk objects, see
// https://platform.openai.com/docs/api-reference/chat/streaming.
type chatForm struct {
	*answer
	includeUsage bool
}

func (f *chatForm) whole() object {
	message := object{"role", "assistant", "content", f.text(), "refusal", nil, "annotations", list{}}
	if f.tool != nil {
		message = object{"role", "assistant", "content", nil, "tool_calls", list{object{
			"id", "call_" + f.tool.id, "type", "function",
			"function", object{"name", f.tool.name, "arguments", f.tool.arguments},
		}}, "refusal", nil}
	}
	var choices list
	for i := range f.choices {
		choices = append(choices, object{
			"index", i, "message", message, "logprobs", nil, "finish_reason", f.finish(),
		})
	}
	return object{
		"id", f.id, "object", "chat.completion", "created", f.created, "model", f.model,
		"choices", choices,
	}.with(!f.noUsage, "usage", f.usage.chatUsage()).
		with(true, "service_tier", "default").
		with(true, "system_fingerprint", "fp_sim")
}

func (f *chatForm) finish() string {
	switch {
	case f.tool != nil:
		return "tool_calls"
	case f.cut:
		return "length"
	}
	return "stop"
}

func (f *chatForm) open() []frame {
	delta := object{"role", "assistant", "content", "", "refusal", nil}
	if f.tool != nil {
		delta = object{"role", "assistant", "content", nil, "tool_calls", list{object{
			"index", 0, "id", "call_" + f.tool.id, "type", "function",
			"function", object{"name", f.tool.name, "arguments", ""},
		}}, "refusal", nil}
	}
	return f.deltas(delta, nil)
}

func (f *chatForm) piece(i int) []frame {
	if f.tool != nil {
		return f.deltas(object{"tool_calls", list{object{
			"index", 0, "function", object{"arguments", f.pieces[i]},
		}}}, nil)
	}
	return f.deltas(object{"content", f.pieces[i]}, nil)
}

func (f *chatForm) end() []frame {
	frames := f.deltas(object{}, f.finish())
	if f.includeUsage && !f.noUsage {
		frames = append(frames, f.chunk(list{}, f.usage.chatUsage()))
	}
	return append(frames, done)
}

// deltas is one chunk for each choice.
func (f *chatForm) deltas(delta object, finish any) []frame {
	frames := make([]frame, 0, f.choices+2)
	for i := range f.choices {
		frames = append(frames, f.chunk(list{object{
			"index", i, "delta", delta, "logprobs", nil, "finish_reason", finish,
		}}, nil))
	}
	return frames
}

// chunk carries a usage, null but in the last, only for clients that asked.
func (f *chatForm) chunk(choices list, usage any) frame {
	return frame{data: encode(object{
		"id", f.id, "object", "chat.completion.chunk", "created", f.created, "model", f.model,
		"service_tier", "default", "system_fingerprint", "fp_sim", "choices", choices,
	}.with(f.includeUsage && !f.noUsage, "usage", usage))}
}

func (f *chatForm) failure(p problem) frame { return openAIFailure(p) }

// done is OpenAI's end mark.
var done = frame{data: []byte("[DONE]")}

// openAIFailure is the error object SDKs raise when they meet it in a stream.
func openAIFailure(p problem) frame {
	return frame{data: encode(openAI{}.problem(p, ""))}
}
