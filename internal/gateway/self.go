package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// self is the answer to GET /v1/llm-proxy/token.
type self struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	IssuedAt  time.Time   `json:"issued_at"`
	ExpiresAt *time.Time  `json:"expires_at"` // null: never
	Project   selfProject `json:"project"`
	Limits    selfLimits  `json:"limits"`
}

type selfProject struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// selfLimits tells what the token may do; each list is null where it does not
// restrict, and what token and project both restrict must satisfy both.
type selfLimits struct {
	Token   selfPolicy `json:"token"`
	Project selfPolicy `json:"project"`
}

type selfPolicy struct {
	AllowedModels    []string `json:"allowed_models"`
	AllowedProviders []string `json:"allowed_providers"`
	AllowedEndpoints []string `json:"allowed_endpoints"`
	AllowedIPs       []string `json:"allowed_ips"`

	RPM         *selfLimit `json:"rpm"`
	TPM         *selfLimit `json:"tpm"`
	Concurrency *selfLimit `json:"concurrency"`
	MaxRequests *selfLimit `json:"max_requests"`
	BudgetUSD   *selfLimit `json:"budget_usd"`
}

// serveSelf tells the holder of a token about it. It asks no provider.
func (x *exchange) serveSelf() *apierr.Error {
	x.rec.Provider, x.rec.Endpoint = "", SelfPath
	if x.method != http.MethodGet && x.method != http.MethodHead {
		e := *apierr.New(http.StatusMethodNotAllowed, apierr.MethodNotAllowed, "this method is not allowed here")
		e.Allow = "GET, HEAD"
		return &e
	}
	if err := x.admitAddress(); err != nil {
		return err
	}
	t, p := x.identity.Token, x.identity.Project
	limits := selfLimits{Token: policyOf(&t.Policy), Project: policyOf(&p.Policy)}
	if err := x.standing(&limits); err != nil {
		return err
	}
	body, err := json.Marshal(self{
		ID: t.ID.String(), Name: t.Name, IssuedAt: token.IssuedAt(t.ID), ExpiresAt: t.ExpiresAt,
		Project: selfProject{ID: p.ID.String(), Name: p.Name},
		Limits:  limits,
	}, json.FormatNilSliceAsNull(true))
	if err != nil {
		return errStore.WithCause(err)
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.addHeaders(h)
	x.rec.Status, x.wrote = http.StatusOK, true
	x.w.WriteHeader(http.StatusOK)
	if x.method == http.MethodGet {
		_, _ = x.w.Write(body) // a client that left needs no answer
	}
	return nil
}

func policyOf(p *project.Policy) selfPolicy {
	return selfPolicy{
		AllowedModels: p.AllowedModels, AllowedProviders: p.AllowedProviders,
		AllowedEndpoints: p.AllowedEndpoints, AllowedIPs: p.AllowedIPs,
	}
}
