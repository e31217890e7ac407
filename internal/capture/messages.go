package capture

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// messages merges the events of Anthropic's messages. See
// https://docs.anthropic.com/en/docs/build-with-claude/streaming.
type messages struct {
	whole  object
	blocks list
}

func (m *messages) add(payload *object) error {
	switch payload.str("type") {
	case "message_start":
		message, err := asObject(payload.get("message"))
		if err != nil {
			return err
		}
		for _, member := range message.members {
			m.whole.set(member.name, member.value)
		}
	case "content_block_start":
		return m.start(payload)
	case "content_block_delta":
		return m.continueBlock(payload)
	case "message_delta":
		return m.change(payload)
	case "error":
		m.whole.fill("error", payload.get("error"))
	}
	return nil // pings, ends, and what is still to be invented
}

func (m *messages) start(payload *object) error {
	i, err := payload.num("index")
	if err != nil {
		return err
	}
	begun, err := asObject(payload.get("content_block"))
	if err != nil {
		return err
	}
	*m.blocks.at(i) = *begun
	return nil
}

// continueBlock goes on with a block: its input is JSON in pieces, its citations are a list, its
// signature comes as a whole, and everything else is text.
func (m *messages) continueBlock(payload *object) error {
	i, err := payload.num("index")
	if err != nil {
		return err
	}
	delta, err := asObject(payload.get("delta"))
	if err != nil {
		return err
	}
	block := m.blocks.at(i)
	if block.get("type") == nil { // its start is missing
		kind := strings.TrimSuffix(delta.str("type"), "_delta")
		if kind == "input_json" {
			kind = "tool_use"
		}
		block.set("type", jsontext.Value(quote(kind)))
	}
	for _, member := range delta.members {
		v, _ := member.value.(jsontext.Value)
		switch {
		case member.name == "type":
		case member.name == "citation":
			citations, err := block.array("citations")
			if err != nil {
				return err
			}
			citations.items = append(citations.items, v)
		case member.name == "signature" || v.Kind() != '"':
			block.fill(member.name, v)
		default:
			if err := block.write(member.name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// change takes a message_delta: what is told of the message, and the usage so far, in
// which the fields that are absent stay as they were.
func (m *messages) change(payload *object) error {
	for _, member := range payload.members {
		if member.name == "type" || isNull(member.value) {
			continue
		}
		if member.name != "delta" && member.name != "usage" {
			m.whole.set(member.name, member.value)
			continue
		}
		changed, err := asObject(member.value)
		if err != nil {
			return err
		}
		into := &m.whole
		if member.name == "usage" {
			if into, err = m.whole.child("usage"); err != nil {
				return err
			}
		}
		for _, c := range changed.members {
			into.fill(c.name, c.value)
		}
	}
	return nil
}

func (m *messages) answer() (*object, error) {
	m.blocks.sort()
	for _, item := range m.blocks.items {
		block := item.(*object)
		pieces, ok := block.get("partial_json").(*text)
		if !ok {
			continue
		}
		block.remove("partial_json")
		switch input := jsontext.Value(pieces.b); {
		case isValid(input):
			block.set("input", input)
		case len(input) > 0: // it was cut, or is no JSON
			block.set("input", pieces)
		}
	}
	m.whole.set("content", &m.blocks)
	return &m.whole, nil
}
