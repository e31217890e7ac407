package gateway

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// imageTokens is more than any picture of OpenAI's has, with its previews:
// 6,240 and three times 100 (https://platform.openai.com/docs/guides/image-generation).
const imageTokens = 8192

// leastHold is what is held for work that costs nothing, or whose cost nobody can
// bound: an exhausted budget lets neither through.
const leastHold = 1

// upperBound is what the request costs at most, in nanodollars, for budgets.
// open says that it may cost more, and is let through all the same.
func (x *exchange) upperBound(a *ask, body []byte) (nano int64, open bool, err *apierr.Error) {
	kind := usage.KindOf(x.method, x.route.Endpoint)
	limits := &x.identity.Project.Policy.Limits
	if !x.usesModel() && kind == usage.KindNone {
		return leastHold, false, nil // a look-up, an upload
	}
	if !bounded(kind) || a.background || a.unbounded || a.tools && a.searches == 0 || x.upload || x.upgrade || x.route.HidesModel(x.method) {
		if limits.AllowUnbounded {
			return leastHold, true, nil
		}
		return 0, false, errNotBudgetable
	}
	if x.g.cfg.Prices == nil || len(x.asked) == 0 {
		return x.unpriced()
	}
	prices := x.g.cfg.Prices.With(x.identity.Project.Policy.Prices)
	p := x.route.Provider
	for _, model := range x.asked {
		found, ok := prices.Lookup(p.Name, p.Type, model, x.rec.Time)
		if !ok {
			return x.unpriced()
		}
		m, ok := x.maxima(kind, a, body, found)
		if !ok {
			return 0, false, errUnknownBound
		}
		var n int64
		if a.tier == "" || a.tier == "auto" {
			m.AnyTier = true // the account's own default
			n, ok = found.UpperBound(m)
		} else {
			n, ok = found.UpperBound(m, a.tier)
		}
		if !ok {
			return x.unpriced()
		}
		nano = max(nano, n)
	}
	return max(nano, leastHold), false, nil
}

// unpriced is the answer for a model whose price nobody knows.
func (x *exchange) unpriced() (int64, bool, *apierr.Error) {
	if x.identity.Project.Policy.AllowUnpriced {
		return leastHold, true, nil
	}
	e := *errUnpriced
	e.Message = fmt.Sprintf(e.Message, truncate(x.rec.Model, 100))
	return 0, false, &e
}

// continues reports whether an endpoint goes on with a conversation that lies at the
// provider.
func continues(endpoint string) bool { return strings.Contains(endpoint, "/conversations/") }

// bounded reports whether requests of a kind say what they may cost at most.
func bounded(kind usage.Kind) bool {
	switch kind {
	case usage.KindChat, usage.KindGeminiChat, usage.KindResponses, usage.KindMessages, usage.KindGenerate, usage.KindImages:
		return true
	}
	return false
}

// toolPrompt is more than the tokens of the prompt that Anthropic adds to a request with
// tools (https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/overview#pricing).
const toolPrompt = 4096

// listsPrefix reports whether a comma-separated header lists a token with a prefix.
func listsPrefix(lines []string, prefix string) bool {
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			if strings.HasPrefix(strings.TrimSpace(token), prefix) {
				return true
			}
		}
	}
	return false
}

// maxima are the most that the request may use of a model. A tokeniser that
// knows every byte makes no more tokens than there are bytes; what else the request
// refers to must fit into the model's context.
func (x *exchange) maxima(kind usage.Kind, a *ask, body []byte, p *price.Price) (m price.Maxima, ok bool) {
	window, known := p.MaxInput()
	anthropic := x.dialect() == apierr.Anthropic
	if anthropic && listsPrefix(x.r.Header["Anthropic-Beta"], "context-1m") {
		window = max(window, 1_000_000)
	}
	m.Input = int64(len(body))
	if anthropic && a.equipped {
		m.Input += toolPrompt
	}
	m.Mixed = hasMedia(body)
	switch {
	case a.tools: // each use may read a whole context again
		m.WebSearches = a.searches
		m.Input = times(window, a.searches+1)
	case m.Mixed || a.stored || continues(x.route.Endpoint):
		m.Input = window
	case known:
		m.Input = min(m.Input, window)
	}
	if !known && (a.tools || m.Mixed || a.stored) {
		return m, false
	}
	if kind == usage.KindImages {
		m.OutputImage = times(imageTokens, a.answers())
		if strings.HasPrefix(x.rec.Model, "dall-e") {
			m.OutputImage, m.Images = 0, a.answers()
		}
		return m, true
	}
	output, says := x.outputLimit(a)
	if !says {
		if output, says = p.MaxOutput(); !says {
			return m, false
		}
	}
	m.Output = times(output, a.answers())
	if a.tools {
		m.Output = times(m.Output, a.searches+1)
	}
	if a.predicted { // what the model does not take over is charged as well
		m.Output = min(m.Output+int64(len(body)), math.MaxInt64/2)
	}
	return m, true
}

// mediaNames are the names and types by which the APIs' JSON tells parts other than
// text, and what lies elsewhere, by their first letter.
var mediaNames = func() (byLetter [128][]string) {
	for _, name := range []string{
		"image", "image_url", "image_data", "input_image", "input_audio", "input_file", "input_video", "inlineData", "inline_data",
		"audio", "audio_url", "video", "video_url", "document", "document_url",
		"file", "file_id", "file_data", "file_url", "file_uri", "fileData", "fileUri",
		"item_reference", "modalities", "responseModalities", "response_modalities", "container_upload", "url", "uri",
	} {
		byLetter[name[0]] = append(byLetter[name[0]], name)
	}
	return byLetter
}()

// hasMedia reports whether a body may hold or ask for anything but text. It may be
// wrong in saying so, not in denying it: a name that is written with escapes is
// found as well.
func hasMedia(body []byte) bool {
	for rest := body; ; {
		i := bytes.IndexByte(rest, '"')
		if i < 0 {
			break
		}
		if rest = rest[i+1:]; len(rest) > 0 && isMedia(rest) {
			return true
		}
	}
	if !bytes.Contains(body, []byte(`\u00`)) {
		return false
	}
	d := jsontext.NewDecoder(bytes.NewReader(body), scanOptions...)
	for {
		token, err := d.ReadToken()
		if err != nil {
			return false // the end; nothing but JSON comes here
		}
		if token.Kind() == '"' && isMedia(append([]byte(token.String()), '"')) {
			return true
		}
	}
}

// isMedia reports whether what follows a quotation mark is one of mediaNames with
// its own.
func isMedia(rest []byte) bool {
	if rest[0] >= 128 {
		return false
	}
	for _, name := range mediaNames[rest[0]] {
		if n := len(name); len(rest) > n && rest[n] == '"' && string(rest[:n]) == name {
			return true
		}
	}
	return false
}

var (
	errNotBudgetable = apierr.New(http.StatusForbidden, apierr.NotBudgetable, "there is a budget here, and nobody can tell what this request will cost at most; an operator can allow such requests for the project (allow_unbounded)")
	errUnpriced      = apierr.New(http.StatusForbidden, apierr.ModelNotAllowed, "there is a budget here, and no price is known for the model %q; an operator can add one, or allow such models for the project (allow_unpriced)")
	errUnknownBound  = apierr.New(http.StatusPaymentRequired, apierr.HoldTooLarge, "there is a budget here, and nobody can tell what this request will cost at most; name the most tokens that the answer may have, and send text alone")
)
