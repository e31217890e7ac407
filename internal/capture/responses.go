package capture

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// responses merges the events of OpenAI's responses. The last ones repeat the whole;
// a stream that broke off is put together from its pieces. See
// https://platform.openai.com/docs/api-reference/responses-streaming.
type responses struct {
	whole  *object // the response as it was told last
	ended  bool    // which was at the end, with its output
	output list
	err    node
}

func (r *responses) add(payload *object) error {
	kind := payload.str("type")
	if kind == "error" {
		payload.remove("type")
		payload.remove("sequence_number")
		r.err = payload
		return nil
	}
	if v := payload.get("response"); !isNull(v) {
		whole, err := asObject(v)
		if err != nil {
			return err
		}
		r.whole = whole
		switch kind {
		case "response.completed", "response.incomplete", "response.failed", "response.cancelled":
			r.ended = true
		}
		return nil
	}
	if r.ended {
		return nil
	}
	return r.piece(strings.TrimPrefix(kind, "response."), payload)
}

// strings of an item, by the event that goes on with them.
var itemTexts = map[string]string{
	"function_call_arguments":    "arguments",
	"mcp_call_arguments":         "arguments",
	"custom_tool_call_input":     "input",
	"code_interpreter_call_code": "code",
}

// texts of an item's parts, by the event that goes on with them.
var partTexts = map[string]struct{ list, index, kind, text string }{
	"output_text":            {"content", "content_index", "output_text", "text"},
	"refusal":                {"content", "content_index", "refusal", "refusal"},
	"reasoning_text":         {"content", "content_index", "reasoning_text", "text"},
	"reasoning_summary_text": {"summary", "summary_index", "summary_text", "text"},
}

func (r *responses) piece(kind string, payload *object) error {
	i, err := payload.num("output_index")
	if err != nil {
		return err
	}
	switch kind {
	case "output_item.added", "output_item.done":
		item, err := asObject(payload.get("item"))
		if err != nil {
			return err
		}
		*r.output.at(i) = *item
		return nil
	}
	what, ok := strings.CutSuffix(kind, ".delta")
	if !ok {
		return nil // the rest repeats what has come, or tells of progress
	}
	if name := itemTexts[what]; name != "" {
		return r.output.at(i).write(name, payload.get("delta"))
	}
	form, ok := partTexts[what]
	if !ok {
		return nil
	}
	item := r.output.at(i)
	if item.get("type") == nil { // its beginning is missing
		item.set("type", jsontext.Value(`"message"`))
	}
	parts, err := item.array(form.list)
	if err != nil {
		return err
	}
	j, err := payload.num(form.index)
	if err != nil {
		return err
	}
	part := parts.at(j)
	if part.get("type") == nil {
		part.set("type", jsontext.Value(quote(form.kind)))
	}
	return part.write(form.text, payload.get("delta"))
}

func (r *responses) answer() (*object, error) {
	if r.whole == nil {
		r.whole = new(object)
	}
	if !r.ended {
		r.output.sort()
		r.whole.set("output", &r.output)
	}
	if r.err != nil {
		r.whole.set("error", r.err)
	}
	return r.whole, nil
}

// transcript merges the events of OpenAI's transcriptions and translations.
type transcript struct {
	whole  object
	pieces object
}

func (t *transcript) add(payload *object) error {
	switch payload.str("type") {
	case "transcript.text.delta":
		return t.pieces.write("text", payload.get("delta"))
	case "transcript.text.done":
		payload.remove("type")
		t.whole = *payload
	default: // an error, a segment
		for _, m := range payload.members {
			t.whole.fill(m.name, m.value)
		}
	}
	return nil
}

func (t *transcript) answer() (*object, error) {
	if v := t.pieces.get("text"); v != nil && t.whole.get("text") == nil {
		t.whole.set("text", v)
	}
	return &t.whole, nil
}
