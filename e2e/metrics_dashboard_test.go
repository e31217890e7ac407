package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// dashboard is what is checked of Grafana's JSON.
type dashboard struct {
	UID        string
	Title      string
	Panels     []panel
	Templating struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
			Datasource *datasource
		}
	}
}

type panel struct {
	ID          int
	Type, Title string
	Description string
	Datasource  *datasource
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct {
		Expr, LegendFormat string
		Datasource         *datasource
	}
}

type datasource struct{ Type, UID string }

var (
	labelValues    = regexp.MustCompile(`^label_values\((.+), ([a-z_]+)\)$`)
	legendLabel    = regexp.MustCompile(`{{\s*([a-z_]+)\s*}}`)
	grafanaVar     = regexp.MustCompile(`\$\{?([a-zA-Z_]+)\}?`)
	alertExpr      = regexp.MustCompile(`(?m)^\s+(?:- )?expr: (.+)$`)
	targetLabels   = []string{"instance", "job"} // which Prometheus adds
	histogramParts = []string{"_bucket", "_sum", "_count"}
)

// observed is /metrics after one of everything.
func observed(t *testing.T) scrape {
	t.Helper()
	sim := newProvider(t, simulator.Options{})
	p := start(t, observedSite(t, sim))
	a := p.account(t)
	p.do(t, chat(a.token, "gpt-4o", false))
	p.do(t, chat(a.token, "sim-error-500", false))
	p.do(t, chat("sk-wt-nobody", "gpt-4o", false))
	var m scrape
	eventually(t, "everything is counted and delivered", func() bool {
		m = p.scrape(t)
		return m.sum("llm_proxy_requests_total") == 3 && m.sum("llm_proxy_events_delivered") == 2
	})
	return m
}

// check holds an expression against the metrics that there are.
func (s scrape) check(t *testing.T, where, expr string) query {
	t.Helper()
	q, err := parsePromQL(expr)
	if err != nil {
		t.Errorf("%s: %s: %v", where, expr, err)
	}
	for _, sel := range q.selectors {
		labels := s.labelsOf(sel.metric)
		if labels == nil {
			t.Errorf("%s: %s: there is no metric %s", where, expr, sel.metric)
			continue
		}
		for _, l := range sel.labels {
			if !slices.Contains(labels, l) {
				t.Errorf("%s: %s: %s has no label %s, but %v", where, expr, sel.metric, l, labels)
			}
		}
		gauge := s[sel.metric] != nil && s[sel.metric].GetType() == dto.MetricType_GAUGE
		if counts := sel.fn == "rate" || sel.fn == "increase"; counts == gauge {
			t.Errorf("%s: %s: %s(%s): rate and increase are for counters, and only they", where, expr, sel.fn, sel.metric)
		}
	}
	for _, g := range q.groups {
		for _, sel := range q.selectors[g.from:g.to] {
			labels := append(s.labelsOf(sel.metric), targetLabels...)
			for _, l := range g.labels {
				if !slices.Contains(labels, l) {
					t.Errorf("%s: %s: %s cannot be summed up by %s", where, expr, sel.metric, l)
				}
			}
			if strings.HasSuffix(sel.metric, "_bucket") && !slices.Contains(g.labels, "le") {
				t.Errorf("%s: %s: buckets are summed up by le as well", where, expr)
			}
		}
	}
	return q
}

// labelsOf are the labels of a name as Prometheus stores it; nil: there is none.
func (s scrape) labelsOf(name string) []string {
	family, labels := s[name], []string{}
	if family == nil || family.GetType() == dto.MetricType_HISTOGRAM {
		base := name
		for _, part := range histogramParts {
			base = strings.TrimSuffix(base, part)
		}
		if family = s[base]; base == name || family == nil || family.GetType() != dto.MetricType_HISTOGRAM {
			return nil
		}
		if strings.HasSuffix(name, "_bucket") {
			labels = append(labels, "le")
		}
	}
	for _, l := range family.Metric[0].Label {
		labels = append(labels, l.GetName())
	}
	return labels
}

// TestDashboard holds the dashboard, and the alerts of docs/observability.md, against
// what the binary has.
func TestDashboard(t *testing.T) {
	t.Parallel()
	m := observed(t)
	text, err := os.ReadFile("../deploy/grafana/llm-proxy.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{"__rate_interval": "5m", "__range": "6h"}
	for _, v := range d.Templating.List {
		variables[v.Name] = ".*"
	}
	if len(variables) != 5 || d.UID == "" || d.Title == "" {
		t.Errorf("variables %v, uid %q, title %q", sortedKeys(variables), d.UID, d.Title)
	}
	fill := func(where, expr string) string {
		return grafanaVar.ReplaceAllStringFunc(expr, func(name string) string {
			value, ok := variables[strings.Trim(name, "${}")]
			if !ok {
				t.Errorf("%s: there is no variable %s", where, name)
			}
			return value
		})
	}
	from := func(where string, source *datasource) {
		if source == nil || *source != (datasource{"prometheus", "${datasource}"}) {
			t.Errorf("%s: the data source is %v", where, source)
		}
	}
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			continue
		}
		from(v.Name, v.Datasource)
		var q struct{ Query string }
		if err := json.Unmarshal(v.Query, &q); err != nil {
			t.Fatal(err)
		}
		values := labelValues.FindStringSubmatch(q.Query)
		if values == nil {
			t.Errorf("%s: cannot read %s", v.Name, q.Query)
			continue
		}
		parsed, err := parsePromQL(fill(v.Name, values[1]))
		if err != nil || len(parsed.selectors) != 1 || !slices.Contains(m.labelsOf(parsed.selectors[0].metric), values[2]) {
			t.Errorf("%s: %s: %v, %v", v.Name, q.Query, parsed, err)
		}
	}

	used, ids := make(map[string]bool), make(map[int]bool)
	for i, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: there is another panel %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, other := range d.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H || a.X+a.W > 24 {
				t.Errorf("%s lies on %s", p.Title, other.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		from(p.Title, p.Datasource)
		if len(p.Targets) == 0 || p.Description == "" {
			t.Errorf("%s has no query, or no description", p.Title)
		}
		for _, target := range p.Targets {
			from(p.Title, target.Datasource)
			q := m.check(t, p.Title, fill(p.Title, target.Expr))
			for _, s := range q.selectors {
				used[s.metric] = true
			}
			for _, label := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.ContainsFunc(q.groups, func(g group) bool { return slices.Contains(g.labels, label[1]) }) {
					t.Errorf("%s: %s shows %s, which is summed up", p.Title, target.Expr, label[1])
				}
			}
		}
	}
	for name, family := range m {
		if family.GetType() == dto.MetricType_HISTOGRAM {
			name += "_bucket"
		}
		if !used[name] {
			t.Errorf("no panel shows %s", name)
		}
	}

	doc, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts := alertExpr.FindAllStringSubmatch(string(doc), -1)
	if len(alerts) < 5 || len(alerts) != strings.Count(string(doc), "- alert: ") {
		t.Errorf("%d expressions of alerts", len(alerts))
	}
	for _, alert := range alerts {
		m.check(t, "docs/observability.md", alert[1])
	}
	for name := range m {
		if !strings.Contains(string(doc), "`"+name) {
			t.Errorf("docs/observability.md does not describe %s", name)
		}
	}
}
