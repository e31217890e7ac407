package capture

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// errShape says that a stream is not what its beginning looked like.
var errShape = errors.New("unexpected form")

// merger makes one answer of the payloads of a stream in a dialect.
type merger interface {
	add(payload *object) error
	answer() (*object, error)
}

// mergeStream is the answer that the same request would have had without streaming,
// as far as the stream goes. Where that cannot be told, it is the array of all payloads:
// nothing is lost.
func mergeStream(all []jsontext.Value) jsontext.Value {
	if answer, err := merge(all); err == nil {
		return appendNode(nil, answer)
	}
	l := &list{items: make([]node, len(all))}
	for i, v := range all {
		l.items[i] = v
	}
	return appendNode(nil, l)
}

func merge(all []jsontext.Value) (*object, error) {
	var m merger
	for i, v := range all {
		payload, err := asObject(v)
		if err != nil {
			return nil, err
		}
		if m == nil {
			if m = mergerFor(payload); m == nil {
				continue
			}
			for _, before := range all[:i] { // such as an error, or a ping
				if early, err := asObject(before); err != nil || m.add(early) != nil {
					return nil, errShape
				}
			}
		}
		if err := m.add(payload); err != nil {
			return nil, err
		}
	}
	if m == nil {
		return nil, errShape
	}
	return m.answer()
}

// mergerFor recognises a dialect, which says more than an endpoint's name: many providers
// serve others' dialects under paths of their own.
func mergerFor(payload *object) merger {
	switch kind := payload.str("type"); {
	case strings.HasPrefix(kind, "response."):
		return new(responses)
	case strings.HasPrefix(kind, "transcript.text."):
		return new(transcript)
	case kind == "message_start", kind == "message_delta", strings.HasPrefix(kind, "content_block_"):
		return new(messages)
	}
	switch {
	case payload.get("choices") != nil:
		return new(chat)
	case payload.get("candidates") != nil, payload.get("usageMetadata") != nil:
		return new(generate)
	}
	return nil
}

// whole are strings that pieces repeat rather than continue.
var whole = map[string]bool{
	"id": true, "type": true, "role": true, "name": true, "object": true, "model": true, "status": true,
	"format": true, "finish_reason": true, "native_finish_reason": true, "stop_reason": true,
}

// maxDepth bounds how deep pieces are merged; a tool call's arguments are at five.
// Each level reads a piece once more.
const maxDepth = 8

// accumulate merges a piece into what came before it: strings and lists go on, list items
// with an index go to their like, and of everything else the later is true.
func accumulate(into, piece *object, depth int) error {
	for _, m := range piece.members {
		v, ok := m.value.(jsontext.Value)
		if !ok || depth == 0 {
			return errShape
		}
		switch kind := v.Kind(); {
		case kind == 'n' || kind == '"' && whole[m.name]:
			into.fill(m.name, v)
		case kind == '"':
			if err := into.write(m.name, v); err != nil {
				return err
			}
		case kind == '{':
			child, err := into.child(m.name)
			if err != nil {
				return err
			}
			next, err := asObject(v)
			if err != nil {
				return err
			}
			if err := accumulate(child, next, depth-1); err != nil {
				return err
			}
		case kind == '[':
			l, err := into.array(m.name)
			if err != nil {
				return err
			}
			next, err := asList(v)
			if err != nil {
				return err
			}
			if err := l.extend(next.items, depth-1); err != nil {
				return err
			}
		default:
			into.set(m.name, v)
		}
	}
	return nil
}

func (l *list) extend(items []node, depth int) error {
	for _, item := range items {
		o, err := asObject(item)
		if err != nil || isNull(o.get("index")) {
			l.items = append(l.items, item)
			continue
		}
		i, err := o.num("index")
		if err != nil {
			return err
		}
		if err := accumulate(l.at(i), o, depth); err != nil {
			return err
		}
	}
	return nil
}

// at is the list's object with an index, new if need be.
func (l *list) at(i int) *object {
	o := l.byIndex[i]
	if o == nil {
		if o = new(object); l.byIndex == nil {
			l.byIndex = make(map[int]*object)
		}
		l.byIndex[i] = o
		l.items = append(l.items, o)
	}
	return o
}

// sort puts the list's objects into the order of their indices, behind the rest.
func (l *list) sort() {
	rank := make(map[node]int, len(l.byIndex))
	for i, o := range l.byIndex {
		rank[o] = i
	}
	at := func(item node) int {
		if o, ok := item.(*object); ok {
			return rank[o]
		}
		return math.MinInt
	}
	slices.SortStableFunc(l.items, func(a, b node) int { return cmp.Compare(at(a), at(b)) })
}
