package simulator

import "github.com/go-json-experiment/json/jsontext"

// messagesRequest is what matters of a Messages API request, see
// https://docs.anthropic.com/en/api/messages.
type messagesRequest struct {
	Model    string  `json:"model"`
	System   content `json:"system"`
	Messages []struct {
		Role    string  `json:"role"`
		Content content `json:"content"`
	} `json:"messages"`
	MaxTokens int  `json:"max_tokens"`
	Stream    bool `json:"stream"`
	Tools     []struct {
		Name        string         `json:"name"`
		InputSchema jsontext.Value `json:"input_schema"`
	} `json:"tools"`
	ToolChoice toolChoice `json:"tool_choice"`
}

func (req *messagesRequest) prompt() *prompt {
	p := &prompt{
		model: req.Model, choice: string(req.ToolChoice), limit: req.MaxTokens, choices: 1, stream: req.Stream,
	}
	p.say("system", req.System.text)
	for _, m := range req.Messages {
		role := m.Role
		if m.Content.toolResult {
			role = "tool"
		}
		p.say(role, m.Content.text)
	}
	for _, t := range req.Tools {
		p.tools = append(p.tools, tool{t.Name, t.InputSchema})
	}
	return p
}

// readMessages reads a request whose version header and members are checked as
// the real endpoint does.
func (c *call) readMessages() (*messagesRequest, bool) {
	if c.r.Header.Get("anthropic-version") == "" {
		c.refuse(badRequest("anthropic-version: header is required"))
		return nil, false
	}
	var req messagesRequest
	switch {
	case !c.decode(&req):
		return nil, false
	case req.Model == "":
		c.refuse(badRequest("model: Field required"))
		return nil, false
	case len(req.Messages) == 0:
		c.refuse(badRequest("messages: at least one message is required"))
		return nil, false
	}
	return &req, true
}
