package simulator

import (
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
)

// responsesRequest is what matters of a Responses API request, see
// https://platform.openai.com/docs/api-reference/responses/create.
type responsesRequest struct {
	Model        string         `json:"model"`
	Input        responsesInput `json:"input"`
	Instructions string         `json:"instructions"`
	Stream       bool           `json:"stream"`
	Tools        []struct {
		Type       string         `json:"type"`
		Name       string         `json:"name"`
		Parameters jsontext.Value `json:"parameters"`
	} `json:"tools"`
	ToolChoice      toolChoice `json:"tool_choice"`
	MaxOutputTokens int        `json:"max_output_tokens"`
}

// responsesItem is a message or a function's output.
type responsesItem struct {
	Type    string  `json:"type"`
	Role    string  `json:"role"`
	Content content `json:"content"`
	Output  content `json:"output"`
}

// responsesInput is a text, which is a user message, or a list of items.
type responsesInput []responsesItem

// UnmarshalJSON implements [json.Unmarshaler].
func (in *responsesInput) UnmarshalJSON(b []byte) error {
	if b[0] != '"' {
		return json.Unmarshal(b, (*[]responsesItem)(in))
	}
	item := responsesItem{Role: "user"}
	*in = responsesInput{item}
	return json.Unmarshal(b, &(*in)[0].Content.text)
}

func (req *responsesRequest) prompt() *prompt {
	p := &prompt{
		model: req.Model, choice: string(req.ToolChoice), limit: req.MaxOutputTokens, choices: 1, stream: req.Stream,
	}
	p.say("system", req.Instructions)
	for _, item := range req.Input {
		role := item.Role
		if item.Type == "function_call_output" {
			role = "tool"
		}
		p.say(role, item.Content.text+item.Output.text)
	}
	for _, t := range req.Tools {
		if t.Type == "function" {
			p.tools = append(p.tools, tool{t.Name, t.Parameters})
		}
	}
	return p
}
