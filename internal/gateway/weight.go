package gateway

import (
	"net/http"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// estimate is how many tokens the request will use, for limits of tokens.
func (x *exchange) estimate(a *ask) int64 {
	if !x.usesModel() {
		return 0
	}
	output, says := x.outputLimit(a)
	if !says {
		output = -1
	} else {
		output = times(output, a.answers())
	}
	return x.g.cfg.Limits.Estimator.Estimate(x.textBytes(), x.rec.Model, output)
}

// usesModel reports whether the request has a model work.
func (x *exchange) usesModel() bool {
	if x.method == http.MethodGet || x.method == http.MethodHead {
		return x.upgrade
	}
	return usage.KindOf(x.method, x.route.Endpoint) != usage.KindNone || x.route.NeedsModel(x.method, x.upgrade) || x.route.HidesModel(x.method)
}

// answers is how many the request asks for.
func (a *ask) answers() int64 { return times(max(a.choices, 1), max(a.prompts, 1)) }

// outputLimit is the most tokens that one answer may have, if the request says so
// in a way that its provider goes by.
func (x *exchange) outputLimit(a *ask) (tokens int64, says bool) {
	switch usage.KindOf(x.method, x.route.Endpoint) {
	case usage.KindChat, usage.KindGeminiChat:
		if !writes(x.route.Endpoint) {
			return 0, true
		}
		if !strings.HasSuffix(x.route.Endpoint, "/completions") {
			return 0, false // its completion_args are not looked into
		}
		l := a.output
		if strings.HasSuffix(x.route.Endpoint, "/chat/completions") && x.route.Provider.CompletionTokens {
			l = max(l, a.completion)
		}
		return l.value()
	case usage.KindResponses:
		return a.answer.value()
	case usage.KindMessages:
		return a.output.value()
	case usage.KindGenerate:
		if !strings.HasSuffix(x.route.Endpoint, "enerateContent") {
			return 0, true
		}
		return a.generation.value()
	}
	return 0, false
}

// writes reports whether the answers of an endpoint of chat's usage have text that
// a model has written.
func writes(endpoint string) bool {
	return strings.HasSuffix(endpoint, "/completions") || strings.Contains(endpoint, "/conversations")
}

// times multiplies what is not negative, up to the largest number.
func times(a, b int64) int64 {
	if a != 0 && b > maxProduct/a {
		return maxProduct
	}
	return a * b
}

const maxProduct = 1 << 62
