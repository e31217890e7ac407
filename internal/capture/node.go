package capture

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// lenient is how bodies are read: they are other people's.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// node is a JSON value that may grow: a jsontext.Value, of which nothing was read
// yet, an *object, a *list or a *text. A nil one is absent.
type node any

// object is a JSON object. Its members are values until somebody asks, so that an
// answer takes little more memory than its bytes.
type object struct {
	members []member
	index   map[string]int // of the members, when they are many
}

type member struct {
	name  string
	value node
}

// list is a JSON array.
type list struct {
	items   []node
	byIndex map[int]*object // items that have told their index
}

// text is a JSON string, decoded.
type text struct{ b []byte }

var null = jsontext.Value("null")

const manyMembers = 16

func (o *object) find(name string) int {
	if o.index != nil {
		if i, ok := o.index[name]; ok {
			return i
		}
		return -1
	}
	for i := range o.members {
		if o.members[i].name == name {
			return i
		}
	}
	return -1
}

func (o *object) get(name string) node {
	if i := o.find(name); i >= 0 {
		return o.members[i].value
	}
	return nil
}

func (o *object) set(name string, v node) {
	if i := o.find(name); i >= 0 {
		o.members[i].value = v
		return
	}
	o.members = append(o.members, member{name, v})
	switch {
	case o.index != nil:
		o.index[name] = len(o.members) - 1
	case len(o.members) == manyMembers:
		o.index = make(map[string]int)
		for i := range o.members {
			o.index[o.members[i].name] = i
		}
	}
}

// remove is for what few objects have.
func (o *object) remove(name string) {
	i := o.find(name)
	if i < 0 {
		return
	}
	rest := append(o.members[:i:i], o.members[i+1:]...)
	o.members, o.index = nil, nil
	for _, m := range rest {
		o.set(m.name, m.value)
	}
}

// fill sets a member to a newer value, unless that says nothing.
func (o *object) fill(name string, v node) {
	if raw, ok := v.(jsontext.Value); ok && (isNull(v) || string(raw) == `""`) && o.get(name) != nil {
		return
	}
	o.set(name, v)
}

// str is a member's decoded string, or "".
func (o *object) str(name string) string {
	switch v := o.get(name).(type) {
	case *text:
		return string(v.b)
	case jsontext.Value:
		if v.Kind() == '"' {
			return unquote(v)
		}
	}
	return ""
}

// num is a member's number as an index; absent is zero.
func (o *object) num(name string) (int, error) {
	v := o.get(name)
	if isNull(v) {
		return 0, nil
	}
	raw, _ := v.(jsontext.Value)
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		return 0, errShape
	}
	return n, nil
}

// child is a member that is an object, which it becomes if it is absent or null.
func (o *object) child(name string) (*object, error) {
	v := o.get(name)
	if isNull(v) {
		c := new(object)
		o.set(name, c)
		return c, nil
	}
	c, err := asObject(v)
	if err == nil {
		o.set(name, c)
	}
	return c, err
}

// array is child for a list.
func (o *object) array(name string) (*list, error) {
	v := o.get(name)
	if isNull(v) {
		l := new(list)
		o.set(name, l)
		return l, nil
	}
	l, err := asList(v)
	if err == nil {
		o.set(name, l)
	}
	return l, err
}

// write adds to the end of a member that is a string.
func (o *object) write(name string, v node) error {
	raw, ok := v.(jsontext.Value)
	if !ok || raw.Kind() != '"' {
		return errShape
	}
	old := o.get(name)
	t, ok := old.(*text)
	if !ok {
		t = new(text)
		if !isNull(old) {
			before, ok := old.(jsontext.Value)
			if !ok || before.Kind() != '"' {
				return errShape
			}
			t.b, _ = jsontext.AppendUnquote(t.b, before)
		}
		o.set(name, t)
	}
	t.b, _ = jsontext.AppendUnquote(t.b, raw) // its only error is U+FFFD for what is not UTF-8
	return nil
}

// asObject reads an object, one level deep.
func asObject(v node) (*object, error) {
	if o, ok := v.(*object); ok {
		return o, nil
	}
	raw, _ := v.(jsontext.Value)
	if raw.Kind() != '{' {
		return nil, errShape
	}
	o := new(object)
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), lenient...)
	_, _ = dec.ReadToken()
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, errShape
		}
		key := name.String()
		value, err := readValue(dec, raw)
		if err != nil {
			return nil, errShape
		}
		o.set(key, value)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, errShape
	}
	return o, nil
}

// asList reads an array, one level deep.
func asList(v node) (*list, error) {
	if l, ok := v.(*list); ok {
		return l, nil
	}
	raw, _ := v.(jsontext.Value)
	if raw.Kind() != '[' {
		return nil, errShape
	}
	elements, ok := arrayElements(raw, false)
	if !ok {
		return nil, errShape
	}
	l := &list{items: make([]node, len(elements))}
	for i, e := range elements {
		l.items[i] = e
	}
	return l, nil
}

// readValue is the decoder's next value as a part of the text that it reads.
func readValue(dec *jsontext.Decoder, text []byte) (jsontext.Value, error) {
	v, err := dec.ReadValue()
	if err != nil {
		return nil, err
	}
	end := dec.InputOffset()
	return jsontext.Value(text[end-int64(len(v)) : end : end]), nil
}

func isNull(v node) bool {
	if v == nil {
		return true
	}
	raw, ok := v.(jsontext.Value)
	return ok && raw.Kind() == 'n'
}

func isValid(v jsontext.Value) bool { return v.IsValid(lenient...) }

func unquote(v jsontext.Value) string {
	b, _ := jsontext.AppendUnquote(nil, v)
	return string(b)
}

// quote is s as a JSON string. What is not UTF-8 becomes U+FFFD.
func quote(s string) string {
	b, _ := jsontext.AppendQuote(nil, s)
	return string(b)
}

// appendNode writes a node down.
func appendNode(b []byte, v node) []byte {
	switch v := v.(type) {
	case jsontext.Value:
		return append(b, v...)
	case *text:
		b, _ = jsontext.AppendQuote(b, v.b)
		return b
	case *object:
		b = append(b, '{')
		for i, m := range v.members {
			if i > 0 {
				b = append(b, ',')
			}
			b, _ = jsontext.AppendQuote(b, m.name)
			b = appendNode(append(b, ':'), m.value)
		}
		return append(b, '}')
	case *list:
		b = append(b, '[')
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendNode(b, item)
		}
		return append(b, ']')
	}
	return append(b, null...)
}
