package simulator

// responses answers POST /v1/responses.
func (c *call) responses() {
	var req responsesRequest
	if !c.decode(&req) || !c.require("model", req.Model != "") || !c.require("input", len(req.Input) > 0) {
		return
	}
	p := req.prompt()
	b, ok := c.begin(p.model, p.tokens())
	if !ok {
		return
	}
	a := c.compose(p, b)
	a.id = c.id("resp_")
	f := &responsesForm{answer: a, itemID: c.id("msg_")}
	if a.tool != nil {
		f.itemID = c.id("fc_")
	}
	c.reply(p, b, a, f)
}

// responsesForm writes response objects and their stream events, see
// https://platform.openai.com/docs/api-reference/responses-streaming.
type responsesForm struct {
	*answer
	itemID string
	events int
}

func (f *responsesForm) whole() object {
	return f.response(f.status(), list{f.item(f.status())}, true)
}

func (f *responsesForm) status() string {
	if f.cut {
		return "incomplete"
	}
	return "completed"
}

// response is the response object; its usage is null until the end.
func (f *responsesForm) response(status string, output list, ended bool) object {
	o := object{
		"id", f.id, "object", "response", "created_at", f.created, "status", status,
		"background", false, "error", nil, "incomplete_details", nil, "instructions", nil,
		"max_output_tokens", nil, "model", f.model, "output", output,
		"parallel_tool_calls", true, "previous_response_id", nil, "service_tier", "default",
		"store", false, "temperature", 1.0, "tool_choice", "auto", "tools", list{}, "top_p", 1.0,
		"truncation", "disabled", "metadata", object{},
	}
	if status == "incomplete" {
		o = o.set("incomplete_details", object{"reason", "max_output_tokens"})
	}
	if !ended {
		return o.with(!f.noUsage, "usage", nil)
	}
	return o.with(!f.noUsage, "usage", f.usage.responsesUsage())
}

// item is the one item of the output.
func (f *responsesForm) item(status string) object {
	begun := status == "in_progress"
	if f.tool != nil {
		arguments := f.tool.arguments
		if begun {
			arguments = ""
		}
		return object{
			"id", f.itemID, "type", "function_call", "status", status,
			"call_id", "call_" + f.tool.id, "name", f.tool.name, "arguments", arguments,
		}
	}
	content := list{}
	if !begun {
		content = list{f.part(f.text())}
	}
	return object{"id", f.itemID, "type", "message", "status", status, "role", "assistant", "content", content}
}

func (f *responsesForm) part(text string) object {
	return object{"type", "output_text", "text", text, "annotations", list{}, "logprobs", list{}}
}

// event numbers the events of the stream.
func (f *responsesForm) event(name string, members ...any) frame {
	fr := event(name, append(object{"sequence_number", f.events}, members...)...)
	f.events++
	return fr
}

// at tells where in the output a text event belongs.
func (f *responsesForm) at(members ...any) []any {
	return append([]any{"item_id", f.itemID, "output_index", 0, "content_index", 0}, members...)
}

func (f *responsesForm) open() []frame {
	begun := f.response("in_progress", list{}, false)
	frames := []frame{
		f.event("response.created", "response", begun),
		f.event("response.in_progress", "response", begun),
		f.event("response.output_item.added", "output_index", 0, "item", f.item("in_progress")),
	}
	if f.tool != nil {
		return frames
	}
	return append(frames, f.event("response.content_part.added", f.at("part", f.part(""))...))
}

func (f *responsesForm) piece(i int) []frame {
	if f.tool != nil {
		return []frame{f.event("response.function_call_arguments.delta",
			"item_id", f.itemID, "output_index", 0, "delta", f.pieces[i])}
	}
	return []frame{f.event("response.output_text.delta", f.at("delta", f.pieces[i], "logprobs", list{})...)}
}

func (f *responsesForm) end() []frame {
	var frames []frame
	if f.tool != nil {
		frames = append(frames, f.event("response.function_call_arguments.done",
			"item_id", f.itemID, "output_index", 0, "name", f.tool.name, "arguments", f.tool.arguments))
	} else {
		frames = append(frames,
			f.event("response.output_text.done", f.at("text", f.text(), "logprobs", list{})...),
			f.event("response.content_part.done", f.at("part", f.part(f.text()))...))
	}
	return append(frames,
		f.event("response.output_item.done", "output_index", 0, "item", f.item(f.status())),
		f.event("response."+f.status(), "response", f.whole()))
}

func (f *responsesForm) failure(p problem) frame {
	return f.event("error", "code", openAIKind(p.status), "message", p.message, "param", nil)
}
