package capture

import "github.com/go-json-experiment/json/jsontext"

// chat merges OpenAI's chat.completion.chunk objects, and those of the many who speak
// like it, and legacy completions. See
// https://platform.openai.com/docs/api-reference/chat/streaming.
type chat struct {
	whole   object
	choices list
}

func (c *chat) add(payload *object) error {
	for _, m := range payload.members {
		if m.name != "choices" {
			if m.name == "object" && payload.str("object") == "chat.completion.chunk" {
				m.value = jsontext.Value(`"chat.completion"`)
			}
			c.whole.fill(m.name, m.value)
			continue
		}
		if c.whole.get("choices") == nil {
			c.whole.set("choices", &c.choices)
		}
		if isNull(m.value) {
			continue
		}
		choices, err := asList(m.value)
		if err != nil {
			return err
		}
		for _, choice := range choices.items {
			if isNull(choice) {
				continue
			}
			if err := c.addChoice(choice); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *chat) addChoice(v node) error {
	piece, err := asObject(v)
	if err != nil {
		return err
	}
	i, err := piece.num("index")
	if err != nil {
		return err
	}
	if delta := piece.get("delta"); delta != nil {
		for i := range piece.members {
			if m := &piece.members[i]; m.name == "delta" {
				m.name = "message"
			}
		}
	}
	return accumulate(c.choices.at(i), piece, maxDepth)
}

// answer numbers choices, but not tool calls: so do answers that are not streamed.
func (c *chat) answer() (*object, error) {
	c.choices.sort()
	for _, item := range c.choices.items {
		message, ok := item.(*object).get("message").(*object)
		if !ok {
			continue
		}
		calls, ok := message.get("tool_calls").(*list)
		if !ok {
			continue
		}
		calls.sort()
		for _, call := range calls.items {
			if o, ok := call.(*object); ok {
				o.remove("index")
			}
		}
	}
	return &c.whole, nil
}
