package simulator

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"sync"
)

const (
	// imageTokens is what one low-quality square image costs.
	imageTokens = 272
	maxImages   = 10
)

// images answers POST /v1/images/generations, see
// https://platform.openai.com/docs/api-reference/images/create.
func (c *call) images() {
	var req struct {
		Model  string `json:"model"`
		Prompt string `json:"prompt"`
		N      int    `json:"n"`
		Format string `json:"response_format"`
	}
	if !c.decode(&req) || !c.require("prompt", req.Prompt != "") {
		return
	}
	if req.Model == "" {
		req.Model = "gpt-image-1"
	}
	n := max(1, req.N)
	if n > maxImages {
		c.refuse(badRequest("Invalid 'n': integer above maximum value."))
		return
	}
	input := tokensOf(len(req.Prompt))
	b, ok := c.begin(req.Model, input)
	if !ok {
		return
	}
	// Only the dall-e models know URLs, which are their default.
	dalle := strings.HasPrefix(req.Model, "dall-e")
	item := object{"b64_json", base64.StdEncoding.EncodeToString(picture())}
	if req.Format == "url" || dalle && req.Format == "" {
		item = object{"url", "http://" + c.r.Host + "/sim/image.png"}
	}
	var data list
	for range n {
		data = append(data, item)
	}
	output := n * imageTokens
	if dalle {
		output = 0
	}
	c.s.stats.tokens(input, output)
	c.body(b, "application/json", encode(object{"created", c.s.opt.Now().Unix(), "data", data}.
		with(!dalle && !b.noUsage, "usage", object{
			"total_tokens", input + output, "input_tokens", input, "output_tokens", output,
			"input_tokens_details", object{"text_tokens", input, "image_tokens", 0},
		})))
}

// picture is a small PNG, drawn once.
var picture = sync.OnceValue(func() []byte {
	const side = 64
	img := image.NewRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			img.Set(x, y, color.RGBA{uint8(4 * x), uint8(4 * y), 128, 255})
		}
	}
	var buf bytes.Buffer
	// Encoding to memory cannot fail for an image of this size.
	_ = png.Encode(&buf, img)
	return buf.Bytes()
})

func serveImage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(picture())
}
