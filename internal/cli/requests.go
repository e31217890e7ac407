package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

const requestsPath = "/manage/requests"

// RequestFilter narrows the log of requests. Empty members do not.
type RequestFilter struct {
	Project  string // id or name
	Token    string // a token, or its id
	Provider string
	Model    string
	Status   string // such as 429, or 4xx
	Outcome  string
	From, To string // a time, a day, or how long ago
	Limit    int    // 0: all
}

// requestView is what is shown of a request.
type requestView struct {
	Type              string            `json:"type"` // alert: it is none
	ID                string            `json:"id"`
	Time              *time.Time        `json:"time"`
	Method            string            `json:"method"`
	Endpoint          string            `json:"endpoint"`
	UpstreamRequestID string            `json:"upstream_request_id"`
	ProjectID         string            `json:"project_id"`
	TokenID           string            `json:"token_id"`
	KeyID             string            `json:"key_id"`
	Provider          string            `json:"provider"`
	Model             string            `json:"model"`
	ResponseModel     string            `json:"response_model"`
	Status            int               `json:"status"`
	Outcome           string            `json:"outcome"`
	Code              string            `json:"code"`
	Stream            bool              `json:"stream"`
	Attempts          int               `json:"attempts"`
	Cache             string            `json:"cache"`
	Latency           json.Number       `json:"latency_ms"`
	TTFT              *json.Number      `json:"ttft_ms"`
	Overhead          json.Number       `json:"overhead_us"`
	InputTokens       *int64            `json:"input_tokens"`
	CachedTokens      *int64            `json:"cached_tokens"`
	CacheWriteTokens  *int64            `json:"cache_write_tokens"`
	OutputTokens      *int64            `json:"output_tokens"`
	ReasoningTokens   *int64            `json:"reasoning_tokens"`
	Estimated         bool              `json:"estimated"`
	Cost              *int64            `json:"cost_nano_usd"`
	ClientIP          string            `json:"client_ip"`
	EndUser           string            `json:"end_user"`
	Metadata          map[string]string `json:"metadata"`
	Request           string            `json:"request"`
	Response          string            `json:"response"`
}

func count(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func (r *requestView) cost() string {
	if r.Cost == nil {
		return ""
	}
	return usd.Format(*r.Cost)
}

var requestTitles = []string{"TIME", "STATUS", "OUTCOME", "PROVIDER", "MODEL", "INPUT", "OUTPUT", "COST $", "MS", "ID"}

func (r *requestView) cells() []string {
	ms, _, _ := strings.Cut(r.Latency.String(), ".")
	return []string{
		timeText(r.Time, ""), strconv.Itoa(r.Status), r.Outcome, r.Provider, r.Model, count(r.InputTokens), count(r.OutputTokens), r.cost(), ms, r.ID,
	}
}

func (m *Manager) requestValues(ctx context.Context, f RequestFilter, now time.Time) (url.Values, error) {
	if f.Limit < 0 {
		return nil, Usagef("--limit: expected a positive number")
	}
	v := url.Values{}
	for name, text := range map[string]string{"provider": f.Provider, "model": f.Model, "status": f.Status, "outcome": f.Outcome} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if err := setMoments(v, now, f.From, f.To); err != nil {
		return nil, err
	}
	return v, m.setOwner(ctx, v, f.Project, f.Token)
}

// ListRequests lists requests, newest first.
func (m *Manager) ListRequests(ctx context.Context, f RequestFilter) error {
	query, err := m.requestValues(ctx, f, time.Now())
	if err != nil {
		return err
	}
	rows, err := m.Client.list(ctx, requestsPath, query, f.Limit)
	if err != nil {
		return err
	}
	return showList(m.Out, rows, requestTitles, (*requestView).cells)
}

// GetRequest shows one request with all that is known of it.
func (m *Manager) GetRequest(ctx context.Context, ref string) error {
	id, ok := asID(ref)
	if !ok {
		return Usagef("expected the id of a request: the X-LLM-Proxy-Request-Id that its client got, or see caddy llm-proxy requests")
	}
	data, _, err := m.Client.Do(ctx, http.MethodGet, requestsPath+"/"+id, nil, nil)
	if err != nil {
		return err
	}
	return show(m.Out, data, func(r *requestView) error {
		metadata := ""
		if len(r.Metadata) > 0 {
			text, _ := json.Marshal(r.Metadata) // a map of strings always encodes
			metadata = string(text)
		}
		ttft := ""
		if r.TTFT != nil {
			ttft = r.TTFT.String() + " ms"
		}
		return m.Out.details(
			"id", r.ID, "time", timeText(r.Time, ""), "call", r.Method+" "+r.Endpoint, "status", strconv.Itoa(r.Status), "outcome", r.Outcome, "code", r.Code,
			"project", r.ProjectID, "token", r.TokenID, "key", r.KeyID, "provider", r.Provider, "model", r.Model, "answered by", r.ResponseModel,
			"provider's id", r.UpstreamRequestID, "stream", yesNo(r.Stream), "attempts", strconv.Itoa(r.Attempts), "cache", r.Cache,
			"latency", r.Latency.String()+" ms", "first byte", ttft, "overhead", r.Overhead.String()+" µs",
			"input tokens", count(r.InputTokens), "cached tokens", count(r.CachedTokens), "cache write tokens", count(r.CacheWriteTokens),
			"output tokens", count(r.OutputTokens), "reasoning tokens", count(r.ReasoningTokens), "estimated", yesNo(r.Estimated), "cost $", r.cost(),
			"client", r.ClientIP, "end user", r.EndUser, "metadata", metadata, "request", r.Request, "response", r.Response)
	})
}
