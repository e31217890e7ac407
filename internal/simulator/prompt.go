package simulator

import "github.com/go-json-experiment/json/jsontext"

// prompt is a request for an answer, freed of its dialect.
type prompt struct {
	model string
	bytes int // of all text, instructions included
	// question is the text of the last user message.
	question string
	// fromUser and fromTool tell who spoke last.
	fromUser, fromTool bool
	tools              []tool
	// choice is "none", the name of a forced tool, or empty.
	choice  string
	limit   int // of answer tokens, 0 for none
	choices int // alternatives asked for, at least 1
	stream  bool
}

// tool is a function the model may call.
type tool struct {
	name   string
	schema jsontext.Value
}

// say adds a message.
func (p *prompt) say(role, text string) {
	p.bytes += len(text)
	p.fromUser, p.fromTool = false, false
	switch role {
	case "user":
		p.question, p.fromUser = text, true
	case "tool", "function":
		p.fromTool = true
	}
}

// tokens is the price of the prompt: one per four bytes of text.
func (p *prompt) tokens() int { return tokensOf(p.bytes) }

func tokensOf(bytes int) int { return (bytes + 3) / 4 }

// wanted returns the tool the answer should call, if any: the forced one, else
// the first, and only when the user, not a tool's result, asks.
func (p *prompt) wanted() (tool, bool) {
	if !p.fromUser || p.choice == "none" || len(p.tools) == 0 {
		return tool{}, false
	}
	for _, t := range p.tools {
		if t.name == p.choice {
			return t, true
		}
	}
	return p.tools[0], true
}
