package sink

import (
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// payloadEvent is an event as the dispatcher of sofatutor/llm-proxy sends it
// (its EventPayload), for consumers that read that. What it has no member for is
// in extra.
type payloadEvent struct {
	Type         string          `json:"type"`
	Event        string          `json:"event"`
	RunID        string          `json:"runId"`
	Name         string          `json:"name,omitempty"`
	Timestamp    time.Time       `json:"timestamp"`
	Input        jsontext.Value  `json:"input"`
	InputBase64  []byte          `json:"input_base64,omitempty"`
	Output       jsontext.Value  `json:"output"`
	OutputBase64 []byte          `json:"output_base64,omitempty"`
	UserID       string          `json:"userId,omitempty"`
	TokensUsage  *payloadTokens  `json:"tokensUsage,omitempty"`
	Extra        payloadExtra    `json:"extra"`
	Metadata     payloadMetadata `json:"metadata"`
	LogID        int64           `json:"log_id"`
}

type payloadTokens struct {
	Completion int64 `json:"completion"`
	Prompt     int64 `json:"prompt"`
}

type payloadMetadata struct {
	Method     string `json:"method"`
	Path       string `json:"path"`
	Status     int    `json:"status"`
	DurationMS int64  `json:"duration_ms"`
	RequestID  string `json:"request_id"`
}

type payloadExtra struct {
	ProjectID     string            `json:"project_id,omitempty"`
	TokenID       string            `json:"token_id,omitempty"`
	Provider      string            `json:"provider,omitempty"`
	Model         string            `json:"model,omitempty"`
	ResponseModel string            `json:"response_model,omitempty"`
	Outcome       string            `json:"outcome,omitempty"`
	Stream        bool              `json:"stream"`
	Cache         string            `json:"cache,omitempty"`
	CostUSD       string            `json:"cost_usd,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
}

// payload encodes an event. The bodies are there only if they were captured; JSON
// stays JSON, and what is not text is base64.
func payload(e *delivery.Event) ([]byte, error) {
	p := payloadEvent{
		Type: "llm", Event: "start", RunID: e.ID.String(), Name: e.Model, Timestamp: e.Time.UTC(), UserID: e.EndUser,
		Metadata: payloadMetadata{Method: e.Method, Path: e.Endpoint, Status: e.Status, DurationMS: e.Latency.Milliseconds(), RequestID: e.ID.String()},
		Extra: payloadExtra{
			Provider: e.Provider, Model: e.Model, ResponseModel: e.ResponseModel, Outcome: e.Outcome,
			Stream: e.Stream, Cache: e.Cache, Metadata: e.Metadata,
		},
	}
	if !e.ProjectID.IsNil() {
		p.Extra.ProjectID = e.ProjectID.String()
	}
	if !e.TokenID.IsNil() {
		p.Extra.TokenID = e.TokenID.String()
	}
	if e.CostNanoUSD.Known {
		p.Extra.CostUSD = usd.Format(e.CostNanoUSD.N)
	}
	if e.InputTokens.Known || e.OutputTokens.Known {
		p.TokensUsage = &payloadTokens{Completion: e.OutputTokens.N, Prompt: e.InputTokens.N}
	}
	p.Input, p.InputBase64 = payloadBody(e.Request)
	p.Output, p.OutputBase64 = payloadBody(e.Response)
	return json.Marshal(&p, json.Deterministic(true), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

// payloadBody is a captured body as JSON, or in base64.
func payloadBody(body string) (jsontext.Value, []byte) {
	null := jsontext.Value("null")
	if body == "" {
		return null, nil
	}
	if value := jsontext.Value(body); value.IsValid() {
		return value, nil
	}
	if !utf8.ValidString(body) {
		return null, []byte(body)
	}
	quoted, err := jsontext.AppendQuote(nil, body)
	if err != nil {
		return null, []byte(body)
	}
	return quoted, nil
}
