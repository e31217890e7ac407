package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"math"
	"strings"
)

// maxDimensions bounds embedding vectors.
const maxDimensions = 8192

// embeddings answers POST /v1/embeddings, see
// https://platform.openai.com/docs/api-reference/embeddings/create.
func (c *call) embeddings() {
	var req struct {
		Model      string `json:"model"`
		Input      texts  `json:"input"`
		Dimensions int    `json:"dimensions"`
		Encoding   string `json:"encoding_format"`
	}
	if !c.decode(&req) || !c.require("model", req.Model != "") || !c.require("input", len(req.Input) > 0) {
		return
	}
	if req.Dimensions < 0 || req.Dimensions > maxDimensions {
		c.refuse(badRequest("Invalid 'dimensions': integer out of range."))
		return
	}
	tokens := tokensOf(req.Input.bytes())
	b, ok := c.begin(req.Model, tokens)
	if !ok {
		return
	}
	var data list
	for i, text := range req.Input {
		var vector any = embedding(text, dimensions(req.Model, req.Dimensions))
		if req.Encoding == "base64" {
			vector = base64Vector(vector.([]float32))
		}
		data = append(data, object{"object", "embedding", "index", i, "embedding", vector})
	}
	c.s.stats.tokens(tokens, 0)
	c.body(b, "application/json", encode(object{"object", "list", "data", data, "model", req.Model}.
		with(!b.noUsage, "usage", object{"prompt_tokens", tokens, "total_tokens", tokens})))
}

// dimensions is the vector length asked for or the model's usual one.
func dimensions(model string, asked int) int {
	switch {
	case asked > 0:
		return asked
	case strings.Contains(model, "large"), strings.Contains(model, "gemini"):
		return 3072
	}
	return 1536
}

// embedding is a unit vector that depends on the text alone.
func embedding(text string, n int) []float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	state := h.Sum64()
	raw := make([]float64, n)
	sum := 0.0
	for i := range raw {
		// splitmix64: enough to spread the hash over the vector.
		state += 0x9e3779b97f4a7c15
		x := state
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		raw[i] = unit(x ^ x>>31)
		sum += raw[i] * raw[i]
	}
	vector := make([]float32, n)
	for i := range raw {
		vector[i] = float32(raw[i] / math.Sqrt(sum))
	}
	return vector
}

// base64Vector is the little-endian encoding OpenAI's Python client asks for.
func base64Vector(vector []float32) string {
	buf := make([]byte, 0, 4*len(vector))
	for _, f := range vector {
		buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(buf)
}

// unit maps a hash to [-1, 1).
func unit(x uint64) float64 { return float64(x>>11)/math.Exp2(52) - 1 }
