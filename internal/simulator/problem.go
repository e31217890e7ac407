package simulator

import (
	"net/http"
	"strconv"
)

// problem is an error answer before a dialect words it.
type problem struct {
	status  int
	code    string // OpenAI's error.code, empty for null
	param   string // OpenAI's error.param, empty for null
	reason  string // Gemini's ErrorInfo.reason, empty for none
	message string
}

func badRequest(message string) problem {
	return problem{status: http.StatusBadRequest, message: message}
}

// missing reports a required member, as OpenAI words it.
func missing(param string) problem {
	return problem{
		status:  http.StatusBadRequest,
		code:    "missing_required_parameter",
		param:   param,
		message: "Missing required parameter: '" + param + "'.",
	}
}

func unknownModel(model string) problem {
	return problem{
		status:  http.StatusNotFound,
		code:    "model_not_found",
		message: "The model `" + model + "` does not exist or you do not have access to it.",
	}
}

// injected is the error a sim-error-<status> model asks for, but for 401, whose
// wording belongs to the dialect.
func injected(status int) problem {
	p := problem{status: status, message: "Simulated error: " + statusText(status) + "."}
	switch status {
	case http.StatusNotFound:
		p.code = "model_not_found"
	case http.StatusTooManyRequests:
		p.code, p.message = "rate_limit_exceeded", "Rate limit reached for requests (simulated). Please try again in 1s."
	}
	return p
}

func statusText(status int) string {
	if status == statusOverloaded {
		return "Overloaded"
	}
	if text := http.StatusText(status); text != "" {
		return text
	}
	return "status " + strconv.Itoa(status)
}

// statusOverloaded is Anthropic's own status.
const statusOverloaded = 529
