package simulator

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// content is a message's content in the forms OpenAI and Anthropic allow: a
// text, or a list of parts of which only the texts matter here.
type content struct {
	text string
	// toolResult tells that a part is a tool's result (Anthropic).
	toolResult bool
}

// contentPart is one part; Content is the nested content of a tool result.
type contentPart struct {
	Type    string  `json:"type"`
	Text    string  `json:"text"`
	Content content `json:"content"`
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *content) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		return json.Unmarshal(b, &c.text)
	case '[':
		return c.unmarshalParts(b)
	case 'n':
		return nil
	}
	return errors.New("content must be a string or an array of parts")
}

func (c *content) unmarshalParts(b []byte) error {
	var parts []contentPart
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	var text strings.Builder
	for _, p := range parts {
		text.WriteString(p.Text)
		text.WriteString(p.Content.text)
		c.toolResult = c.toolResult || p.Type == "tool_result"
	}
	c.text = text.String()
	return nil
}

// texts is an input that is one text or several. Token ids, which OpenAI also
// accepts, become a text per token list, four bytes to the token.
type texts []string

// maxTexts is OpenAI's own limit. Without one, a small request could ask for
// more vectors than there is memory.
const maxTexts = 2048

// UnmarshalJSON implements [json.Unmarshaler].
func (t *texts) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		*t = texts{""}
		return json.Unmarshal(b, &(*t)[0])
	}
	var items []jsontext.Value
	if err := json.Unmarshal(b, &items); err != nil {
		return err
	}
	if len(items) > 0 && items[0].Kind() == '0' {
		*t = texts{tokenText(len(items))}
		return nil
	}
	if len(items) > maxTexts {
		return errors.New("too many inputs")
	}
	for _, item := range items {
		text, err := textOf(item)
		if err != nil {
			return err
		}
		*t = append(*t, text)
	}
	return nil
}

func textOf(item jsontext.Value) (string, error) {
	switch item[0] {
	case '[':
		var tokens []int
		err := json.Unmarshal(item, &tokens)
		return tokenText(len(tokens)), err
	case '{':
		var part contentPart
		err := json.Unmarshal(item, &part)
		return part.Text, err
	}
	var text string
	err := json.Unmarshal(item, &text)
	return text, err
}

func tokenText(n int) string { return strings.Repeat("0000", n) }

func (t texts) bytes() int {
	n := 0
	for _, text := range t {
		n += len(text)
	}
	return n
}
