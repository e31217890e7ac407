package simulator

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// reasoningTokens is what a model with "reason" in its name thinks, at most.
const reasoningTokens = 16

// answer is what the model says, before a form writes it down.
type answer struct {
	id, model string
	created   int64
	// pieces are the chunks of the text, or of the tool call's arguments.
	pieces []string
	tool   *toolCall
	// cut tells that the token limit ended the answer.
	cut     bool
	choices int
	usage   usage
	noUsage bool
}

// toolCall is an answer that calls a function.
type toolCall struct {
	id, name, arguments string
}

// usage counts tokens as OpenAI does: prompt includes cached, completion
// includes reasoning and all choices.
type usage struct {
	prompt, cached, completion, reasoning int
}

func (u usage) total() int { return u.prompt + u.completion }

// compose makes the answer to a prompt.
func (c *call) compose(p *prompt, b behaviour) *answer {
	a := &answer{
		model:   p.model,
		created: c.s.opt.Now().Unix(),
		choices: max(1, p.choices),
		noUsage: b.noUsage || b.truncate && p.stream,
	}
	if b.big > 0 {
		a.choices = 1 // many times big is more than anybody meant
	}
	a.usage.prompt = p.tokens()
	if b.cached {
		a.usage.cached = a.usage.prompt / 2
	}
	if b.reasoning {
		a.usage.reasoning = reasoningTokens
		if p.limit > 0 {
			a.usage.reasoning = min(reasoningTokens, p.limit/2)
		}
	}
	spoken := c.speak(a, p, b)
	a.usage.completion = a.choices * (spoken + a.usage.reasoning)
	a.usage.reasoning *= a.choices
	return a
}

// speak fills in the pieces and returns what one choice of them costs.
func (c *call) speak(a *answer, p *prompt, b behaviour) int {
	limit := p.limit
	if limit > 0 {
		limit = max(1, limit-a.usage.reasoning)
	}
	if t, ok := p.wanted(); ok && !b.echo && b.big == 0 {
		arguments := string(arguments(t.schema))
		pieces := splitRunes(arguments, 4)
		// Arguments cut short would not be JSON; then text is cut instead.
		if limit == 0 || len(pieces) <= limit {
			a.pieces = pieces
			a.tool = &toolCall{id: c.hash[24:48], name: t.name, arguments: arguments}
			return len(pieces)
		}
	}
	var text string
	switch {
	case b.echo:
		text = "This is the request as received: " + string(encode(c.echo()))
	case b.big > 0:
		text = bigText(b.big)
	default:
		text = textFor(p, b.chunks)
	}
	// The size of sim-big is an order: it holds against the token limit, which
	// Anthropic's clients always send.
	if b.big == 0 && limit > 0 && words(text) > limit {
		text, a.cut = firstWords(text, limit), true
	}
	a.pieces = split(text, b.chunks)
	return words(text)
}

// text is the answer's whole text.
func (a *answer) text() string { return strings.Join(a.pieces, "") }

// emitted is what the first n pieces cost, reasoning included, which has
// happened before the first. After the last piece it is the usage reported.
func (a *answer) emitted(n int) int {
	if n == 0 {
		return 0
	}
	spoken := a.usage.completion - a.usage.reasoning
	return a.usage.reasoning + spoken*n/len(a.pieces)
}

// echo describes the request without giving any credential away.
func (c *call) echo() object {
	var kinds list
	for _, k := range credentials(c.r) {
		kinds = append(kinds, object{"kind", k.kind, "starts_with", shown(k.value)})
	}
	return object{
		"method", c.r.Method,
		"path", c.r.URL.Path,
		"query", shownQuery(c.r.URL.Query()),
		"headers", headerNames(c.r.Header),
		"credentials", kinds,
	}
}

func headerNames(h http.Header) list {
	var names list
	for name := range h {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b any) int { return cmp.Compare(a.(string), b.(string)) })
	return names
}
