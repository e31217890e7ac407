package simulator

// geminiEmbedRequest is what matters of an embedContent request, see
// https://ai.google.dev/api/embeddings.
type geminiEmbedRequest struct {
	Content    geminiContent `json:"content"`
	Dimensions int           `json:"outputDimensionality"`
}

func (c *call) geminiEmbed(model string) {
	var req geminiEmbedRequest
	if !c.decode(&req) {
		return
	}
	c.geminiVectors(model, []geminiEmbedRequest{req}, func(vectors list) object {
		return object{"embedding", vectors[0]}
	})
}

func (c *call) geminiBatchEmbed(model string) {
	var req struct {
		Requests []geminiEmbedRequest `json:"requests"`
	}
	if !c.decode(&req) {
		return
	}
	c.geminiVectors(model, req.Requests, func(vectors list) object {
		return object{"embeddings", vectors}
	})
}

func (c *call) geminiVectors(model string, requests []geminiEmbedRequest, wrap func(list) object) {
	if len(requests) > maxTexts {
		c.refuse(badRequest("* BatchEmbedContentsRequest.requests: too many requests"))
		return
	}
	var vectors list
	bytes := 0
	for _, req := range requests {
		text, _ := req.Content.text()
		bytes += len(text)
		if req.Dimensions > maxDimensions {
			c.refuse(badRequest("* EmbedContentRequest.output_dimensionality: out of range"))
			return
		}
		vectors = append(vectors, object{"values", embedding(text, dimensions(model, req.Dimensions))})
	}
	if len(vectors) == 0 {
		c.refuse(badRequest("* BatchEmbedContentsRequest.requests: requests is not specified"))
		return
	}
	b, ok := c.begin(model, tokensOf(bytes))
	if !ok {
		return
	}
	c.s.stats.tokens(tokensOf(bytes), 0)
	c.body(b, "application/json", encode(wrap(vectors)))
}

// geminiCount answers :countTokens, whose request may also wrap a whole
// generateContent request.
func (c *call) geminiCount(model string) {
	var req struct {
		geminiRequest
		Wrapped geminiRequest `json:"generateContentRequest"`
	}
	if !c.decode(&req) {
		return
	}
	p := req.prompt(model, false)
	p.bytes += req.Wrapped.prompt(model, false).bytes
	b, ok := c.begin(model, p.tokens())
	if !ok {
		return
	}
	c.body(b, "application/json", encode(object{
		"totalTokens", p.tokens(),
		"promptTokensDetails", list{object{"modality", "TEXT", "tokenCount", p.tokens()}},
	}))
}
