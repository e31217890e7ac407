package gateway

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// ask is how much work a request asks for, as far as the members of its body say.
// Of members that are repeated, or that mean the same, the largest counts. The zero
// value asks for nothing in particular.
type ask struct {
	output     tokenLimit // max_tokens, which every server knows
	completion tokenLimit // max_completion_tokens, of OpenAI's chat
	answer     tokenLimit // max_output_tokens, of OpenAI's responses
	generation tokenLimit // generationConfig.maxOutputTokens, of Gemini

	choices    int64  // answers asked for; 0: one
	prompts    int64  // that are answered; 0: one
	tier       string // the service tier
	equipped   bool   // tools of any kind
	tools      bool   // of the provider's own, which it runs and charges for
	searches   int64  // how often they may be used; 0: it does not say
	unbounded  bool   // tools whose use nothing bounds, or other models than the one named
	stored     bool   // the prompt refers to what lies at the provider
	predicted  bool   // parts of the request may be charged as output
	background bool   // the answer is made after this request
}

// tokenLimit is the most tokens that a request wants, plus one; 0: it does not say.
type tokenLimit int64

func (l tokenLimit) value() (int64, bool) { return int64(l) - 1, l > 0 }

// sizeMember is a member that says how much a request asks for.
type sizeMember uint8

const (
	sizeNone sizeMember = iota
	sizeOutput
	sizeCompletion
	sizeAnswer
	sizeGeneration
	sizeChoices
	sizeTier
	sizeTools
	sizeToolCalls
	sizeExtra
	sizeStored
	sizePrompt
	sizePredicted
	sizeBackground
	sizeSurcharge
)

// wants is which of the members it is; nil wants none.
func (a *ask) wants(name []byte) sizeMember {
	if a == nil {
		return sizeNone
	}
	switch string(name) {
	case "max_tokens":
		return sizeOutput
	case "max_completion_tokens":
		return sizeCompletion
	case "max_output_tokens":
		return sizeAnswer
	case "generationConfig", "generation_config":
		return sizeGeneration
	case "n", "best_of":
		return sizeChoices
	case "service_tier":
		return sizeTier
	case "tools":
		return sizeTools
	case "max_tool_calls":
		return sizeToolCalls
	case "web_search_options", "search_parameters", "mcp_servers", "plugins", "models":
		return sizeExtra
	case "previous_response_id", "conversation", "cachedContent", "cached_content", "container":
		return sizeStored
	case "prompt":
		return sizePrompt
	case "prediction":
		return sizePredicted
	case "background":
		return sizeBackground
	case "speed", "inference_geo":
		return sizeSurcharge
	}
	return sizeNone
}

// take reads a member's value.
func (a *ask) take(m sizeMember, value jsontext.Value) {
	if m == sizeNone || value.Kind() == 'n' {
		return
	}
	switch m {
	case sizeOutput:
		a.output.raise(value)
	case sizeCompletion:
		a.completion.raise(value)
	case sizeAnswer:
		a.answer.raise(value)
	case sizeGeneration:
		a.takeGeneration(value)
	case sizeChoices:
		a.choices = max(a.choices, whole(value))
	case sizeTier:
		if value.Kind() == '"' {
			a.tier = unquoted(value)
		}
	case sizeTools:
		a.takeTools(value)
	case sizeToolCalls:
		if n := whole(value); n >= 0 {
			a.searches = min(max(a.searches, n), maxSearches)
		}
	case sizeExtra:
		a.tools, a.unbounded = true, true
	case sizeStored:
		a.stored = true
	case sizePrompt:
		a.takePrompt(value)
	case sizePredicted:
		a.predicted = true
	case sizeBackground:
		a.background = a.background || value.Kind() == 't'
	case sizeSurcharge:
		switch unquoted(value) {
		case "standard", "default", "global":
		default: // dearer than the prices that are known
			a.tools, a.unbounded = true, true
		}
	}
}

// takePrompt reads a prompt: an object that names a template at the provider, a
// text, the numbers of its tokens, or a list of such, which are answered each.
func (a *ask) takePrompt(value jsontext.Value) {
	switch value.Kind() {
	case '{':
		a.stored = true
	case '[':
		d := jsontext.NewDecoder(bytes.NewReader(value), scanOptions...)
		_, _ = d.ReadToken()
		var n int64
		for k := d.PeekKind(); k == '"' || k == '['; k = d.PeekKind() {
			if d.SkipValue() != nil {
				break
			}
			n++
		}
		a.prompts = max(a.prompts, n)
	}
}

func (l *tokenLimit) raise(value jsontext.Value) {
	if n := whole(value); n >= 0 && n < math.MaxInt64 {
		*l = max(*l, tokenLimit(n+1))
	}
}

// whole is a number that is not negative, rounded up; -1: it is something else.
func whole(value jsontext.Value) int64 {
	if value.Kind() != '0' {
		return -1
	}
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return max(n, -1)
	}
	f, err := strconv.ParseFloat(string(value), 64)
	switch {
	case err != nil || f < 0:
		return -1
	case f >= 1<<62:
		return math.MaxInt64
	}
	return int64(math.Ceil(f))
}

func unquoted(literal jsontext.Value) string {
	text, _ := jsontext.AppendUnquote(nil, literal)
	return string(text)
}

// takeGeneration reads Gemini's generationConfig, whose members may be spelt in
// either way of protocol buffers.
func (a *ask) takeGeneration(value jsontext.Value) {
	eachMember(value, func(name string, value jsontext.Value) {
		switch name {
		case "maxOutputTokens", "max_output_tokens":
			a.generation.raise(value)
		case "candidateCount", "candidate_count":
			a.choices = max(a.choices, whole(value))
		}
	})
}

// takeTools tells tools that the client runs, which cost nothing but their
// tokens, from those that the provider runs.
func (a *ask) takeTools(value jsontext.Value) {
	d := jsontext.NewDecoder(bytes.NewReader(value), scanOptions...)
	if d.PeekKind() != '[' {
		return
	}
	if _, err := d.ReadToken(); err != nil {
		return
	}
	for d.PeekKind() == '{' {
		a.equipped = true
		tool, err := d.ReadValue()
		if err != nil {
			return
		}
		a.takeTool(tool)
	}
}

// maxSearches keeps sums in bounds; nobody's budget covers as many.
const maxSearches = 1 << 20

func (a *ask) takeTool(tool jsontext.Value) {
	var kind string
	var client, other bool
	uses := int64(-1)
	eachMember(tool, func(name string, value jsontext.Value) {
		switch name {
		case "type":
			kind = unquoted(value)
		case "max_uses":
			uses = whole(value)
		case "name", "function", "input_schema", "functionDeclarations", "function_declarations":
			client = true
		case "description", "parameters", "strict", "cache_control":
		default:
			other = true
		}
	})
	switch {
	case runByClient(kind), kind == "" && client && !other:
		return
	case strings.HasPrefix(kind, "web_search"):
		a.tools = true
		if uses >= 0 {
			a.searches = min(a.searches+min(uses, maxSearches), maxSearches)
		}
	default:
		a.tools, a.unbounded = true, true
	}
}

// runByClient reports whether tools of this type are run by whoever asked.
func runByClient(kind string) bool {
	switch kind {
	case "function", "custom", "local_shell", "apply_patch":
		return true
	}
	for _, prefix := range []string{"bash_", "text_editor_", "computer_", "memory_"} {
		if strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return false
}

// eachMember visits the members of an object that a decoder has accepted.
func eachMember(object jsontext.Value, visit func(name string, value jsontext.Value)) {
	d := jsontext.NewDecoder(bytes.NewReader(object), scanOptions...)
	if d.PeekKind() != '{' {
		return
	}
	if _, err := d.ReadToken(); err != nil {
		return
	}
	for d.PeekKind() == '"' {
		literal, err := d.ReadValue()
		if err != nil {
			return
		}
		name := unquoted(literal)
		value, err := d.ReadValue()
		if err != nil {
			return
		}
		visit(name, value)
	}
}
