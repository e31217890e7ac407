package simulator

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// geminiContent is a turn of the conversation, or the system instruction.
type geminiContent struct {
	Role  string `json:"role"`
	Parts []struct {
		Text             string         `json:"text"`
		FunctionResponse jsontext.Value `json:"functionResponse"`
	} `json:"parts"`
}

// text joins the text parts; it reports whether a function's result is among
// the parts.
func (g geminiContent) text() (string, bool) {
	var text strings.Builder
	result := false
	for _, part := range g.Parts {
		text.WriteString(part.Text)
		text.Write(part.FunctionResponse)
		result = result || part.FunctionResponse != nil
	}
	return text.String(), result
}

// geminiFunction declares a function in either of the two schema members.
type geminiFunction struct {
	Name       string         `json:"name"`
	Parameters jsontext.Value `json:"parameters"`
	JSONSchema jsontext.Value `json:"parametersJsonSchema"`
}

// geminiRequest is what matters of a generateContent request, see
// https://ai.google.dev/api/generate-content. The API takes snake case as
// well; the members whose examples use it are listed twice.
type geminiRequest struct {
	Contents               []geminiContent `json:"contents"`
	SystemInstruction      geminiContent   `json:"systemInstruction"`
	SystemInstructionSnake geminiContent   `json:"system_instruction"`
	Tools                  []struct {
		Functions      []geminiFunction `json:"functionDeclarations"`
		FunctionsSnake []geminiFunction `json:"function_declarations"`
	} `json:"tools"`
	ToolConfig struct {
		FunctionCalling struct {
			Mode    string   `json:"mode"`
			Allowed []string `json:"allowedFunctionNames"`
		} `json:"functionCallingConfig"`
	} `json:"toolConfig"`
	GenerationConfig struct {
		MaxOutputTokens int `json:"maxOutputTokens"`
		CandidateCount  int `json:"candidateCount"`
	} `json:"generationConfig"`
}

func (req *geminiRequest) prompt(model string, stream bool) *prompt {
	p := &prompt{
		model:   model,
		limit:   req.GenerationConfig.MaxOutputTokens,
		choices: min(req.GenerationConfig.CandidateCount, maxCandidates),
		stream:  stream,
		choice:  req.choice(),
	}
	for _, instruction := range []geminiContent{req.SystemInstruction, req.SystemInstructionSnake} {
		text, _ := instruction.text()
		p.say("system", text)
	}
	for _, turn := range req.Contents {
		text, result := turn.text()
		p.say(turn.speaker(result), text)
	}
	for _, t := range req.Tools {
		for _, f := range append(t.Functions, t.FunctionsSnake...) {
			schema := f.Parameters
			if schema == nil {
				schema = f.JSONSchema
			}
			p.tools = append(p.tools, tool{f.Name, schema})
		}
	}
	return p
}

// maxCandidates is Gemini's own limit of candidateCount.
const maxCandidates = 8

func (req *geminiRequest) choice() string {
	config := req.ToolConfig.FunctionCalling
	switch {
	case strings.EqualFold(config.Mode, "none"):
		return "none"
	case len(config.Allowed) > 0:
		return config.Allowed[0]
	}
	return ""
}

// speaker is the role in the prompt's terms. Single-turn requests may leave
// the role out.
func (g geminiContent) speaker(result bool) string {
	switch {
	case result:
		return "tool"
	case g.Role == "":
		return "user"
	}
	return g.Role
}
