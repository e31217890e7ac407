package e2e

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// sdkRetries is how often the SDKs would try again, if they are not told otherwise.
const sdkRetries = 2

// TestSDKsUnderstandLimits has the official clients, with their own retries, meet
// limits that are used up. What x-should-retry denies is asked once.
func TestSDKsUnderstandLimits(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	for name, c := range map[string]struct {
		policy object
		model  string
		status int
		code   string
		kind   string // of Anthropic's errors
	}{
		"a minute's wait": {object{"rpm": 0}, "m", 429, "rate_limit_exceeded", "rate_limit_error"},
		"quota":           {object{"max_requests": 0}, "m", 429, "quota_exceeded", "rate_limit_error"},
		"too dear":        {object{"budget_usd": "0.000000001"}, "m", 402, "budget_hold_too_large", "billing_error"},
		"no price":        {object{"budget_usd": "1"}, "nobodys", 403, "model_not_allowed", "permission_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("openai", func(t *testing.T) {
				a := p.account(t, c.policy)
				err := askOpenAI(bounded(t), newOpenAI(p, a.token, h2), c.model)
				var apiErr *openai.Error
				if !errors.As(err, &apiErr) || apiErr.StatusCode != c.status || apiErr.Code != c.code || apiErr.Message == "" {
					t.Errorf("error %v", err)
				}
				a.askedOnce(t, sim)
			})
			t.Run("anthropic", func(t *testing.T) {
				a := p.account(t, c.policy)
				err := askAnthropic(bounded(t), newAnthropic(p, a.token, h2), c.model)
				var apiErr *anthropic.Error
				if !errors.As(err, &apiErr) || apiErr.StatusCode != c.status || string(apiErr.Type()) != c.kind {
					t.Errorf("error %v", err)
				}
				a.askedOnce(t, sim)
			})
		})
	}
	t.Cleanup(func() { sim.untouched(t, 0) })
}

// askedOnce waits for the proxy's own books, and looks into the provider's.
func (a *account) askedOnce(t *testing.T, sim *provider) {
	t.Helper()
	a.awaitRequests(t, 1)
	if n := len(sim.sightings(a.key)); n != 0 {
		t.Errorf("%d requests reached the provider", n)
	}
}

func askOpenAI(ctx context.Context, client openai.Client, model string) error {
	_, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
		Model: model, Messages: userMessage("hello"), MaxTokens: openai.Int(answerTokens),
	}, openaioption.WithMaxRetries(sdkRetries))
	return err
}

func askAnthropic(ctx context.Context, client anthropic.Client, model string) error {
	_, err := client.Messages.New(ctx, claudeParams(model, "hello"), anthropicoption.WithMaxRetries(sdkRetries))
	return err
}

// TestSDKsTryAgain: where waiting helps the SDKs wait, and their user never hears
// that the budget was held by another request.
func TestSDKsTryAgain(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	for name, ask := range map[string]func(ctx context.Context, token string) error{
		"openai": func(ctx context.Context, token string) error {
			return askOpenAI(ctx, newOpenAI(p, token, h2), "m")
		},
		"anthropic": func(ctx context.Context, token string) error {
			return askAnthropic(ctx, newAnthropic(p, token, h2), "m")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := openAIDialect.atMost("", "sim-chunks-40", 2000, true)
			// Enough for what is used and either of the two, not for both of them.
			a := p.account(t, object{"budget_usd": usd(boundOf(first, 2000))})
			first.token = a.token
			release := sim.hold(t, a.key)
			p.open(t, bounded(t), first)
			done := make(chan error, 1)
			go func() { done <- ask(bounded(t), a.token) }()
			refused := a.awaitRequests(t, 1)[0]
			if refused.Status != http.StatusPaymentRequired {
				t.Errorf("%+v", refused)
			}
			release()
			if err := receive(t, "the SDK's answer", done); err != nil {
				t.Errorf("error %v", err)
			}
			if n := len(sim.sightings(a.key)); n != 2 {
				t.Errorf("%d requests reached the provider, want 2", n)
			}
		})
	}
}
