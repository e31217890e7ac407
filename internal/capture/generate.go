package capture

import "github.com/go-json-experiment/json/jsontext"

// generate merges Gemini's GenerateContentResponse objects. See
// https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
type generate struct {
	whole      object
	candidates list
}

func (g *generate) add(payload *object) error {
	for _, m := range payload.members {
		if m.name != "candidates" || isNull(m.value) {
			g.whole.fill(m.name, m.value)
			continue
		}
		if g.whole.get(m.name) == nil {
			g.whole.set(m.name, &g.candidates)
		}
		candidates, err := asList(m.value)
		if err != nil {
			return err
		}
		for _, candidate := range candidates.items {
			if isNull(candidate) {
				continue
			}
			if err := g.addCandidate(candidate); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *generate) addCandidate(v node) error {
	piece, err := asObject(v)
	if err != nil {
		return err
	}
	i, err := piece.num("index")
	if err != nil {
		return err
	}
	candidate := g.candidates.at(i)
	for _, m := range piece.members {
		if m.name != "content" || isNull(m.value) {
			candidate.fill(m.name, m.value)
			continue
		}
		content, err := candidate.child("content")
		if err != nil {
			return err
		}
		said, err := asObject(m.value)
		if err != nil {
			return err
		}
		for _, c := range said.members {
			if c.name != "parts" || isNull(c.value) {
				content.fill(c.name, c.value)
				continue
			}
			if err := addParts(content, c.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// addParts goes on with a text where the last part is one of the same kind.
func addParts(content *object, v node) error {
	parts, err := content.array("parts")
	if err != nil {
		return err
	}
	more, err := asList(v)
	if err != nil {
		return err
	}
	for _, item := range more.items {
		part, err := asObject(item)
		if err != nil {
			return err
		}
		if n := len(parts.items); n > 0 && part.get("text") != nil {
			last := parts.items[n-1].(*object)
			if onlyText(part) && part.str("text") == "" {
				continue
			}
			if onlyText(last) && isTrue(last.get("thought")) == isTrue(part.get("thought")) {
				if err := last.write("text", part.get("text")); err != nil {
					return err
				}
				for _, m := range part.members {
					if m.name != "text" {
						last.set(m.name, m.value)
					}
				}
				continue
			}
		}
		parts.items = append(parts.items, part)
	}
	return nil
}

// onlyText reports whether a part is text, thought or not, and nothing else.
func onlyText(part *object) bool {
	for _, m := range part.members {
		if m.name != "text" && m.name != "thought" {
			return false
		}
	}
	return part.get("text") != nil
}

func isTrue(v node) bool {
	raw, _ := v.(jsontext.Value)
	return raw.Kind() == 't'
}

func (g *generate) answer() (*object, error) {
	g.candidates.sort()
	return &g.whole, nil
}
