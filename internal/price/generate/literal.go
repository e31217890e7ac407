package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parseLiteral reads a JavaScript literal: objects, arrays, strings, numbers,
// booleans and null, as a minifier writes them. Numbers stay text, so that no
// digit is lost; nothing is evaluated. It returns what follows as well.
func parseLiteral(text []byte) (value any, rest []byte, err error) {
	p := literalParser{text: text}
	value, err = p.value(0)
	if err != nil {
		line := 1 + bytes.Count(text[:min(p.at, len(text))], []byte("\n"))
		return nil, nil, fmt.Errorf("line %d of the literal: %w", line, err)
	}
	return value, text[p.at:], nil
}

const maxDepth = 64

type literalParser struct {
	text []byte
	at   int
}

// peek is the next byte that is no space; 0 at the end.
func (p *literalParser) peek() byte {
	for p.at < len(p.text) {
		if c := p.text[p.at]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		p.at++
	}
	return 0
}

func (p *literalParser) accept(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.at++
	return true
}

func (p *literalParser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	switch c := p.peek(); {
	case c == '{':
		p.at++
		return p.object(depth)
	case c == '[':
		p.at++
		return p.array(depth)
	case c == '"', c == '\'', c == '`':
		return p.string()
	case c == '!':
		p.at++
		switch word := p.word(); word {
		case "0":
			return true, nil
		case "1":
			return false, nil
		default:
			return nil, fmt.Errorf("unexpected !%s", word)
		}
	case c >= '0' && c <= '9', c == '.', c == '-':
		return p.number()
	default:
		switch word := p.word(); word {
		case "true":
			return true, nil
		case "false":
			return false, nil
		case "null":
			return nil, nil
		default:
			return nil, fmt.Errorf("unexpected %q; expected a literal", word+string(p.text[p.at:min(p.at+1, len(p.text))]))
		}
	}
}

func (p *literalParser) object(depth int) (any, error) {
	object := make(map[string]any)
	for !p.accept('}') {
		var key string
		var err error
		if c := p.peek(); c == '"' || c == '\'' {
			key, err = p.string()
		} else if key = p.word(); key == "" {
			err = errors.New("expected a member's name")
		}
		if err != nil {
			return nil, err
		}
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("%s appears twice", key)
		}
		if !p.accept(':') {
			return nil, fmt.Errorf("expected : after %s", key)
		}
		if object[key], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if !p.accept(',') && p.peek() != '}' {
			return nil, errors.New("expected , or }")
		}
	}
	return object, nil
}

func (p *literalParser) array(depth int) (any, error) {
	array := []any{}
	for !p.accept(']') {
		value, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
		if !p.accept(',') && p.peek() != ']' {
			return nil, errors.New("expected , or ]")
		}
	}
	return array, nil
}

func (p *literalParser) word() string {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		if c != '_' && c != '$' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			break
		}
		p.at++
	}
	return string(p.text[start:p.at])
}

func (p *literalParser) number() (any, error) {
	start := p.at
	for p.at < len(p.text) && bytes.IndexByte([]byte("0123456789.eE+-"), p.text[p.at]) >= 0 {
		p.at++
	}
	text := string(p.text[start:p.at])
	if strings.HasPrefix(text, ".") {
		text = "0" + text
	}
	if !json.Valid([]byte(text)) {
		return nil, fmt.Errorf("%q is not a number", text)
	}
	return json.Number(text), nil
}

func (p *literalParser) string() (string, error) {
	quote := p.peek()
	p.at++
	var b strings.Builder
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == quote:
			if !utf8.ValidString(b.String()) {
				return "", errors.New("a string is not UTF-8")
			}
			return b.String(), nil
		case c == '\\':
			if err := p.escape(&b); err != nil {
				return "", err
			}
		case c == '$' && quote == '`' && p.at < len(p.text) && p.text[p.at] == '{':
			return "", errors.New("a template with ${ is not a literal")
		case c == '\n' && quote != '`':
			return "", errors.New("a string runs over the end of its line")
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a string does not end")
}

func (p *literalParser) escape(b *strings.Builder) error {
	if p.at == len(p.text) {
		return errors.New("a string does not end")
	}
	c := p.text[p.at]
	p.at++
	switch c {
	case 'n':
		b.WriteByte('\n')
	case 't':
		b.WriteByte('\t')
	case 'r':
		b.WriteByte('\r')
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case '\\', '"', '\'', '`', '$', '/':
		b.WriteByte(c)
	case 'x', 'u':
		size := map[byte]int{'x': 2, 'u': 4}[c]
		if p.at+size > len(p.text) {
			return errors.New("a string does not end")
		}
		code, err := strconv.ParseUint(string(p.text[p.at:p.at+size]), 16, 16)
		if err != nil || code >= 0xd800 && code < 0xe000 {
			return fmt.Errorf("cannot read the escape \\%c%s", c, p.text[p.at:p.at+size])
		}
		p.at += size
		b.WriteRune(rune(code))
	default:
		return fmt.Errorf("cannot read the escape \\%c", c)
	}
	return nil
}
