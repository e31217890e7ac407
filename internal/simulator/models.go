package simulator

// Models offered by the lists. Any other name works as well.
var (
	openAINames = []string{
		"gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-3.5-turbo-instruct",
		"text-embedding-3-small", "text-embedding-3-large", "omni-moderation-latest",
		"gpt-image-1", "tts-1", "whisper-1", "gpt-4o-transcribe", "gpt-realtime",
	}
	anthropicNames = []string{"claude-opus-4-1", "claude-sonnet-4-5", "claude-haiku-4-5"}
	geminiNames    = []string{"gemini-2.5-pro", "gemini-2.5-flash", "gemini-embedding-001"}
	faultNames     = []string{
		"sim-error-429", "sim-error-500", "sim-slow", "sim-pace-100ms", "sim-chunks-200",
		"sim-silent-5s", "sim-hang", "sim-abort", "sim-abort-headers", "sim-error-midstream",
		"sim-truncate", "sim-nousage", "sim-cached", "sim-reason", "sim-big-1000000",
		"sim-redirect", "sim-cookie", "sim-crlf", "sim-trailer", "sim-echo",
	}
)

// modelsSince is the creation time of every model, in the two forms used.
const (
	modelsSince     = 1735689600
	modelsSinceText = "2025-01-01T00:00:00Z"
)

func eachName(lists [][]string, describe func(string) object) list {
	var data list
	for _, names := range lists {
		for _, name := range names {
			data = append(data, describe(name))
		}
	}
	return data
}

// known refuses what is not a model: an unknown order, or no name at all.
func (c *call) known(model string) bool {
	if _, ok := c.s.behaviourOf(model); !ok || model == "" {
		c.refuse(unknownModel(model))
		return false
	}
	return true
}

func (c *call) openAIModels() {
	c.json(object{"object", "list", "data", eachName([][]string{openAINames, faultNames}, openAIModel)})
}

func (c *call) openAIModel() {
	if id := c.r.PathValue("id"); c.known(id) {
		c.json(openAIModel(id))
	}
}

func openAIModel(id string) object {
	return object{"id", id, "object", "model", "created", modelsSince, "owned_by", "simulator"}
}

func (c *call) anthropicModels() {
	data := eachName([][]string{anthropicNames, faultNames}, anthropicModel)
	c.json(object{
		"data", data, "has_more", false,
		"first_id", data[0].(object)[3], "last_id", data[len(data)-1].(object)[3],
	})
}

func (c *call) anthropicModel() {
	if id := c.r.PathValue("id"); c.known(id) {
		c.json(anthropicModel(id))
	}
}

func anthropicModel(id string) object {
	return object{"type", "model", "id", id, "display_name", id + " (simulated)", "created_at", modelsSinceText}
}

func (c *call) geminiModels() {
	c.json(object{"models", eachName([][]string{geminiNames, faultNames}, geminiModel)})
}

func (c *call) geminiModel() {
	if id := c.r.PathValue("id"); c.known(id) {
		c.json(geminiModel(id))
	}
}

func geminiModel(id string) object {
	return object{
		"name", "models/" + id, "version", "001", "displayName", id + " (simulated)",
		"inputTokenLimit", 1048576, "outputTokenLimit", 65536,
		"supportedGenerationMethods", list{"generateContent", "countTokens", "embedContent"},
	}
}
