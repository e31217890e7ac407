package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/glob"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// admit checks what can be judged without the body, in the order that the
// contract gives: method, provider and endpoint, origin, address, headers.
func (x *exchange) admit() *apierr.Error {
	p, id := x.route.Provider, &x.identity
	if !contains(p.Methods, x.method) {
		e := *apierr.New(http.StatusMethodNotAllowed, apierr.MethodNotAllowed, "this method is not allowed here")
		e.Allow = p.Allow
		return &e
	}
	if !id.TokenRules.AllowsProvider(p.Name) || !id.ProjectRules.AllowsProvider(p.Name) {
		return errProvider
	}
	endpoint := x.route.Endpoint
	if !project.MatchEndpoint(p.Endpoints, endpoint) || !id.TokenRules.AllowsEndpoint(endpoint) || !id.ProjectRules.AllowsEndpoint(endpoint) {
		return errEndpoint
	}
	if err := p.CheckOrigin(x.r.Header["Origin"]); err != nil {
		return err
	}
	if err := x.admitAddress(); err != nil {
		return err
	}
	for _, name := range p.RequiredHeaders {
		if len(x.r.Header[name]) == 0 || x.r.Header[name][0] == "" {
			return apierr.New(http.StatusBadRequest, apierr.HeaderRequired, "the header "+name+" is required").WithParam(name)
		}
	}
	return nil
}

func (x *exchange) admitAddress() *apierr.Error {
	id := &x.identity
	if !id.TokenRules.RestrictsIPs() && !id.ProjectRules.RestrictsIPs() {
		return nil
	}
	addr := x.g.cfg.ClientIP(x.r)
	if !addr.IsValid() || !id.TokenRules.AllowsIP(addr) || !id.ProjectRules.AllowsIP(addr) {
		return errIP
	}
	return nil
}

// mustJudge reports whether a rule, or a budget, depends on the body or the model.
func (x *exchange) mustJudge() bool {
	return len(x.route.Provider.Params) > 0 || x.restrictsModels() || x.budgeted()
}

func (x *exchange) restrictsModels() bool {
	return x.identity.TokenRules.RestrictsModels() || x.identity.ProjectRules.RestrictsModels()
}

// mustInspect reports whether a rule depends on what an upload holds.
func (x *exchange) mustInspect() bool {
	p := x.route.Provider
	_, ruled := p.Params[memberModel]
	return len(x.g.paramNames[p.Name]) > 0 || (ruled || x.restrictsModels()) && x.route.NeedsModel(x.method, x.upgrade)
}

// judge decides on an inspected body.
func (x *exchange) judge(in *inspection, problem scanProblem, hasBody bool) *apierr.Error {
	models, err := x.models(in)
	if err != nil {
		return err
	}
	x.asked = models
	if len(models) > 0 {
		x.rec.Model = truncate(models[0], maxRecordedModel)
	}
	x.rec.Stream = in.stream
	switch {
	case problem == scanRepeated:
		return apierr.New(http.StatusBadRequest, apierr.InvalidJSON, "the request body repeats a member that is checked here; send each member once")
	case problem == scanAmbiguous:
		return apierr.New(http.StatusBadRequest, apierr.InvalidJSON, "the request body has a member that differs from a checked one only in case")
	case !x.mustJudge():
		return nil
	case problem == scanNotJSON && hasBody:
		return errNotJSON
	}
	if err := x.judgeModels(models); err != nil {
		return err
	}
	return x.judgeParams(in)
}

// models are all that the request names, in its path, body and query: the
// provider may read any of them.
func (x *exchange) models(in *inspection) ([]string, *apierr.Error) {
	models := x.named[:0]
	if model, ok := x.route.PathModel(); ok {
		models = append(models, model)
	}
	if in.model.present {
		if !in.model.str && x.mustJudge() {
			return nil, errNotJSON.WithParam(memberModel)
		}
		models = append(models, in.model.text)
	}
	if x.r.URL.RawQuery != "" {
		values := queryValues(x.r.URL.RawQuery, memberModel)
		if len(values) > 1 || len(values) == 1 && strings.IndexByte(x.r.URL.RawQuery, ';') >= 0 {
			return nil, apierr.New(http.StatusBadRequest, apierr.ParamNotAllowed, "the query names a model more than once").WithParam(memberModel)
		}
		models = append(models, values...)
	}
	for i := range models {
		models[i] = strings.TrimPrefix(models[i], "models/") // Gemini's full resource name
	}
	return models, nil
}

func (x *exchange) judgeModels(models []string) *apierr.Error {
	globs, ruled := x.route.Provider.Params[memberModel]
	if (ruled || x.restrictsModels()) && x.route.HidesModel(x.method) {
		return errHiddenModel
	}
	for _, model := range models {
		if !x.identity.TokenRules.AllowsModel(model) || !x.identity.ProjectRules.AllowsModel(model) {
			return apierr.New(http.StatusForbidden, apierr.ModelNotAllowed, fmt.Sprintf("the model %q is not allowed here", truncate(model, 100))).WithParam(memberModel)
		}
		if ruled {
			if err := checkParam(globs, memberModel, &member{simple: true, text: model}); err != nil {
				return err
			}
		}
	}
	if len(models) > 0 || !x.route.NeedsModel(x.method, x.upgrade) {
		return nil
	}
	switch {
	case x.restrictsModels():
		return errNoModel
	case ruled:
		return apierr.New(http.StatusBadRequest, apierr.ParamNotAllowed, "the request must name a model: only certain ones are allowed here").WithParam(memberModel)
	}
	return nil
}

// judgeParams applies the provider's allow_param rules for members other than
// model, where they are present.
func (x *exchange) judgeParams(in *inspection) *apierr.Error {
	p := x.route.Provider
	for i, name := range x.g.paramNames[p.Name] {
		if m := &in.params[i]; m.present {
			if err := checkParam(p.Params[name], name, m); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkParam(globs []string, name string, m *member) *apierr.Error {
	if m.simple {
		for _, pattern := range globs {
			if glob.Match(pattern, m.text) {
				return nil
			}
		}
	}
	return apierr.New(http.StatusBadRequest, apierr.ParamNotAllowed,
		fmt.Sprintf("the value of %q is not allowed here; allowed: %s", name, strings.Join(globs, ", "))).WithParam(name)
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// maxRecordedModel bounds what a client can write into our logs, in bytes.
const maxRecordedModel = 256

// truncate cuts s to at most n bytes, between characters.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
