package simulator

import (
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
)

// chatRequest is what matters of a chat completion request, see
// https://platform.openai.com/docs/api-reference/chat/create.
type chatRequest struct {
	Model    string `json:"model"`
	Messages []struct {
		Role    string  `json:"role"`
		Content content `json:"content"`
	} `json:"messages"`
	Stream        bool `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Tools []struct {
		Function struct {
			Name       string         `json:"name"`
			Parameters jsontext.Value `json:"parameters"`
		} `json:"function"`
	} `json:"tools"`
	ToolChoice          toolChoice `json:"tool_choice"`
	N                   int        `json:"n"`
	MaxTokens           int        `json:"max_tokens"`
	MaxCompletionTokens int        `json:"max_completion_tokens"`
}

func (req *chatRequest) prompt() *prompt {
	p := &prompt{
		model:   req.Model,
		choice:  string(req.ToolChoice),
		limit:   max(req.MaxTokens, req.MaxCompletionTokens),
		choices: req.N,
		stream:  req.Stream,
	}
	for _, m := range req.Messages {
		p.say(m.Role, m.Content.text)
	}
	for _, t := range req.Tools {
		p.tools = append(p.tools, tool{t.Function.Name, t.Function.Parameters})
	}
	return p
}

// toolChoice is "none", "auto", "required" or the name of one tool, whichever
// of the providers' forms the request used.
type toolChoice string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *toolChoice) UnmarshalJSON(b []byte) error {
	if b[0] != '{' {
		return json.Unmarshal(b, (*string)(t))
	}
	var o struct {
		Type     string `json:"type"`
		Name     string `json:"name"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	*t = toolChoice(o.Name + o.Function.Name)
	if *t == "" {
		*t = toolChoice(o.Type)
	}
	return nil
}
