package simulator

// completionRequest is what matters of a legacy completion request, see
// https://platform.openai.com/docs/api-reference/completions/create.
type completionRequest struct {
	Model         string `json:"model"`
	Prompt        texts  `json:"prompt"`
	Stream        bool   `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	N         int `json:"n"`
	MaxTokens int `json:"max_tokens"`
}

// completions answers POST /v1/completions.
func (c *call) completions() {
	var req completionRequest
	if !c.decode(&req) || !c.require("model", req.Model != "") || !c.require("prompt", len(req.Prompt) > 0) {
		return
	}
	p := &prompt{
		model: req.Model, limit: req.MaxTokens, stream: req.Stream,
		choices: min(max(1, req.N)*len(req.Prompt), maxChoices),
	}
	for _, text := range req.Prompt {
		p.say("user", text)
	}
	b, ok := c.begin(p.model, p.tokens())
	if !ok {
		return
	}
	a := c.compose(p, b)
	a.id = c.id("cmpl-")
	c.reply(p, b, a, &completionForm{answer: a, includeUsage: req.StreamOptions.IncludeUsage})
}

// completionForm writes text_completion objects.
type completionForm struct {
	*answer
	includeUsage bool
}

func (f *completionForm) whole() object {
	var choices list
	for i := range f.choices {
		choices = append(choices, f.choice(i, f.text(), f.finish()))
	}
	return f.object(choices).with(!f.noUsage, "usage", f.usage.chatUsage())
}

func (f *completionForm) finish() string {
	if f.cut {
		return "length"
	}
	return "stop"
}

func (f *completionForm) open() []frame { return nil }

func (f *completionForm) piece(i int) []frame { return f.chunks(f.pieces[i], nil) }

func (f *completionForm) end() []frame {
	frames := f.chunks("", f.finish())
	if f.includeUsage && !f.noUsage {
		frames = append(frames, frame{data: encode(f.object(list{}).with(true, "usage", f.usage.chatUsage()))})
	}
	return append(frames, done)
}

func (f *completionForm) failure(p problem) frame { return openAIFailure(p) }

func (f *completionForm) chunks(text string, finish any) []frame {
	var frames []frame
	for i := range f.choices {
		chunk := f.object(list{f.choice(i, text, finish)}).with(f.includeUsage && !f.noUsage, "usage", nil)
		frames = append(frames, frame{data: encode(chunk)})
	}
	return frames
}

func (f *completionForm) object(choices list) object {
	return object{
		"id", f.id, "object", "text_completion", "created", f.created, "model", f.model, "choices", choices,
	}
}

func (f *completionForm) choice(i int, text string, finish any) object {
	return object{"text", text, "index", i, "logprobs", nil, "finish_reason", finish}
}
