package simulator

import (
	"encoding/json"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// object is a JSON object as alternating keys and values. Unlike a map it
// keeps the order of the provider's documentation, and unlike a struct it
// shows the wire form where it is built.
type object []any

// list is a JSON array.
type list []any

// with returns the object extended by one member, or unchanged when it is not
// present.
func (o object) with(present bool, key string, value any) object {
	if !present {
		return o
	}
	return append(o, key, value)
}

// set replaces the value of a member that is present.
func (o object) set(key string, value any) object {
	for i := 0; i+1 < len(o); i += 2 {
		if o[i] == key {
			o[i+1] = value
		}
	}
	return o
}

// encode renders a value as compact JSON.
func encode(v any) []byte { return appendJSON(nil, v) }

func appendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case string:
		return appendString(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float64:
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	case jsontext.Value:
		return append(dst, v...)
	case object:
		dst = append(dst, '{')
		for i := 0; i+1 < len(v); i += 2 {
			dst = appendComma(dst, i)
			dst = appendString(dst, v[i].(string))
			dst = append(dst, ':')
			dst = appendJSON(dst, v[i+1])
		}
		return append(dst, '}')
	case list:
		dst = append(dst, '[')
		for i, e := range v {
			dst = appendJSON(appendComma(dst, i), e)
		}
		return append(dst, ']')
	case []float32:
		dst = append(dst, '[')
		for i, f := range v {
			dst = strconv.AppendFloat(appendComma(dst, i), float64(f), 'g', -1, 32)
		}
		return append(dst, ']')
	}
	return appendOther(dst, v)
}

// appendOther serves the rare values (decoded JSON, string lists) through
// encoding/json; they are always representable.
func appendOther(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return append(dst, "null"...)
	}
	return append(dst, b...)
}

func appendComma(dst []byte, i int) []byte {
	if i == 0 {
		return dst
	}
	return append(dst, ',')
}

// appendString quotes s. Invalid UTF-8 becomes the replacement character, for
// which jsontext also reports an error that has no meaning here.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
