package simulator

import "strings"

var moderationCategories = []string{
	"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
	"self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors",
	"violence", "violence/graphic",
}

// moderations answers POST /v1/moderations. A text is flagged for each
// category whose name it contains, so that both outcomes can be shown. See
// https://platform.openai.com/docs/api-reference/moderations/create.
func (c *call) moderations() {
	var req struct {
		Model string `json:"model"`
		Input texts  `json:"input"`
	}
	if !c.decode(&req) || !c.require("input", len(req.Input) > 0) {
		return
	}
	if req.Model == "" {
		req.Model = "omni-moderation-latest"
	}
	b, ok := c.begin(req.Model, tokensOf(req.Input.bytes()))
	if !ok {
		return
	}
	var results list
	for _, text := range req.Input {
		results = append(results, moderated(strings.ToLower(text)))
	}
	c.body(b, "application/json", encode(object{"id", c.id("modr-"), "model", req.Model, "results", results}))
}

func moderated(text string) object {
	var categories, scores, applied object
	flagged := false
	for _, name := range moderationCategories {
		hit, score := strings.Contains(text, name), 0.001
		if hit {
			flagged, score = true, 0.98
		}
		categories = append(categories, name, hit)
		scores = append(scores, name, score)
		applied = append(applied, name, list{"text"})
	}
	return object{
		"flagged", flagged, "categories", categories, "category_scores", scores,
		"category_applied_input_types", applied,
	}
}
