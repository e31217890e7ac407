package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// json cleans JSON: every string, name and number on its own, as its reader sees it, so that
// no escape hides a secret. What is not one JSON value becomes a string: the JSON up to
// where it breaks off, cleaned in the same way, and the rest as text.
func (p *Processor) json(data []byte, cut bool) string {
	r := rewriter{p: p, cut: cut, dec: jsontext.NewDecoder(bytes.NewBuffer(data), lenient...)}
	r.enc = jsontext.NewEncoder(&r.out, jsontext.AllowInvalidUTF8(true))
	values, err := r.run()
	if err == io.EOF && values == 1 {
		return string(bytes.TrimSuffix(r.out.Bytes(), []byte("\n")))
	}
	open := r.close()
	head := bytes.TrimSuffix(r.out.Bytes(), []byte("\n"))
	head = head[:len(head)-open]
	tail := data[r.dec.InputOffset():]
	if err == io.EOF {
		tail = nil
	}
	return quote(string(head) + p.tail(tail, cut && errors.Is(err, io.ErrUnexpectedEOF)))
}

// tail cleans what no longer could be read: if it begins a string, as one.
func (p *Processor) tail(data []byte, cut bool) string {
	i := bytes.IndexByte(data, '"')
	if cut && i >= 0 && len(bytes.Trim(data[:i], " \t\r\n,:")) == 0 {
		partial := append(bytes.Clone(data[i:]), '"')
		for range maxEscape { // its end may be half an escape
			if v := jsontext.Value(partial); isValid(v) {
				s := quote(p.clean(strings.TrimRight(unquote(v), "\uFFFD"), true))
				return string(data[:i]) + s[:len(s)-1]
			}
			if len(partial) < 3 {
				break
			}
			partial = append(partial[:len(partial)-2], '"')
		}
	}
	return p.clean(string(data), cut)
}

// maxEscape is the length of the longest escape, a surrogate pair's.
const maxEscape = len(`\ud83d\ude00`)

// rewriter copies JSON and cleans it. No object has a name twice afterwards: many
// readers refuse that.
type rewriter struct {
	p       *Processor
	cut     bool
	dec     *jsontext.Decoder
	enc     *jsontext.Encoder
	out     bytes.Buffer
	renamed int
}

// run copies as much as is JSON, and tells how many values that were.
func (r *rewriter) run() (values int, err error) {
	for {
		tok, err := r.dec.ReadToken()
		if err != nil {
			return values, err
		}
		kind, n := r.dec.StackIndex(r.dec.StackDepth())
		switch isName := kind == '{' && n%2 == 1; {
		case tok.Kind() == '"' && isName:
			err = r.name(tok.String())
		case tok.Kind() == '"':
			err = r.string(tok)
		case tok.Kind() == '0':
			err = r.number(tok)
		default:
			err = r.enc.WriteToken(tok)
		}
		if err != nil {
			return values, err
		}
		if r.dec.StackDepth() == 0 {
			values++
		}
	}
}

func (r *rewriter) string(tok jsontext.Token) error {
	return r.enc.WriteToken(jsontext.String(r.p.clean(tok.String(), r.cut)))
}

// name writes a member's name. Where that is there already, it gets a number.
func (r *rewriter) name(s string) error {
	s = r.p.clean(s, r.cut)
	err := r.enc.WriteToken(jsontext.String(s))
	for errors.Is(err, jsontext.ErrDuplicateName) {
		r.renamed++
		err = r.enc.WriteToken(jsontext.String(fmt.Sprintf("%s (%d)", s, r.renamed+1)))
	}
	return err
}

// number writes a number, which becomes a string if a part of it must not be stored.
func (r *rewriter) number(tok jsontext.Token) error {
	if len(r.p.redact) > 0 {
		digits := tok.String()
		if s := r.p.clean(digits, false); s != digits {
			return r.enc.WriteToken(jsontext.String(s))
		}
	}
	return r.enc.WriteToken(tok)
}

// close ends what is open, without which the encoder keeps all to itself, and returns
// how many bytes that took.
func (r *rewriter) close() (n int) {
	if kind, i := r.enc.StackIndex(r.enc.StackDepth()); kind == '{' && i%2 == 1 {
		_ = r.enc.WriteToken(jsontext.Null)
		n += len(":null")
	}
	for ; r.enc.StackDepth() > 0; n++ {
		end := jsontext.EndArray
		if kind, _ := r.enc.StackIndex(r.enc.StackDepth()); kind == '{' {
			end = jsontext.EndObject
		}
		if r.enc.WriteToken(end) != nil {
			break
		}
	}
	return n
}
