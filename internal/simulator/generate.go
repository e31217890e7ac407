package simulator

import (
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// geminiMethod answers POST /v1beta/models/{model}:{method}.
func (c *call) geminiMethod() {
	target := c.r.PathValue("call")
	colon := strings.LastIndexByte(target, ':')
	if colon < 0 {
		c.unknownURL()
		return
	}
	model, method := target[:colon], target[colon+1:]
	switch method {
	case "generateContent":
		c.generate(model, false)
	case "streamGenerateContent":
		c.generate(model, true)
	case "embedContent":
		c.geminiEmbed(model)
	case "batchEmbedContents":
		c.geminiBatchEmbed(model)
	case "countTokens":
		c.geminiCount(model)
	default:
		c.refuse(problem{status: http.StatusNotFound, message: "Method " + method + " is not supported."})
	}
}

func (c *call) generate(model string, stream bool) {
	var req geminiRequest
	if !c.decode(&req) {
		return
	}
	if len(req.Contents) == 0 {
		c.refuse(badRequest("* GenerateContentRequest.contents: contents is not specified"))
		return
	}
	p := req.prompt(model, stream)
	b, ok := c.begin(model, p.tokens())
	if !ok {
		return
	}
	a := c.compose(p, b)
	a.id = c.id("")
	f := &generateForm{answer: a}
	if stream && c.r.URL.Query().Get("alt") != "sse" {
		c.stream(f, a, b, jsonArray)
		return
	}
	c.reply(p, b, a, f)
}

// generateForm writes GenerateContentResponse objects, see
// https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
type generateForm struct{ *answer }

func (f *generateForm) whole() object {
	part := object{"text", f.text()}
	if f.tool != nil {
		part = f.functionCall()
	}
	return f.response(part, f.finish(), f.usage.completion)
}

func (f *generateForm) functionCall() object {
	return object{"functionCall", object{"name", f.tool.name, "args", jsontext.Value(f.tool.arguments)}}
}

func (f *generateForm) finish() string {
	if f.cut {
		return "MAX_TOKENS"
	}
	return "STOP"
}

// response repeats the part for every candidate. The usage of a stream's
// chunks is cumulative.
func (f *generateForm) response(part object, finish string, completion int) object {
	var candidates list
	for i := range f.choices {
		candidates = append(candidates, object{
			"content", object{"parts", list{part}, "role", "model"},
		}.with(finish != "", "finishReason", finish).with(true, "index", i))
	}
	return object{"candidates", candidates}.
		with(!f.noUsage, "usageMetadata", f.usage.metadata(completion)).
		with(true, "modelVersion", f.model).
		with(true, "responseId", f.id)
}

// metadata counts thoughts apart from candidates, and leaves zero counts out,
// as protocol buffers do.
func (u usage) metadata(completion int) object {
	spoken := completion - u.reasoning
	return object{
		"promptTokenCount", u.prompt,
		"candidatesTokenCount", spoken,
		"totalTokenCount", u.prompt + completion,
	}.with(u.cached > 0, "cachedContentTokenCount", u.cached).
		with(true, "promptTokensDetails", list{object{"modality", "TEXT", "tokenCount", u.prompt}}).
		with(u.reasoning > 0, "thoughtsTokenCount", u.reasoning)
}

func (f *generateForm) open() []frame { return nil }

// piece sends a function call whole, with its first piece: Gemini does not
// stream arguments.
func (f *generateForm) piece(i int) []frame {
	part := object{"text", f.pieces[i]}
	if f.tool != nil {
		if i > 0 {
			return nil
		}
		part = f.functionCall()
	}
	return []frame{{data: encode(f.response(part, "", f.emitted(i+1)))}}
}

func (f *generateForm) end() []frame {
	return []frame{{data: encode(f.response(object{"text", ""}, f.finish(), f.usage.completion))}}
}

func (f *generateForm) failure(p problem) frame {
	return frame{data: encode(gemini{}.problem(p, ""))}
}
