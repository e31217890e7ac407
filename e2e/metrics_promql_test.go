package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// query is what a PromQL expression asks for.
type query struct {
	selectors []selector
	groups    []group
}

// selector is one metric with the labels that its matchers name. fn is the function
// right around it, such as rate.
type selector struct {
	metric string
	labels []string
	fn     string
}

// group is an aggregation by labels, over selectors[from:to].
type group struct {
	labels   []string
	from, to int
}

var (
	promAggregations = []string{"sum", "max", "min", "avg", "count", "topk"}
	// The functions that dashboards here may use, and whether they take a range.
	promFunctions = map[string]bool{
		"rate": true, "increase": true, "delta": true, "max_over_time": true, "avg_over_time": true,
		"histogram_quantile": false, "vector": false, "time": false, "clamp_min": false, "absent": false,
	}
	promOperators = []string{"+", "-", "*", "/", ">", "<", ">=", "<=", "==", "!=", "and", "or", "unless"}
	promToken     = regexp.MustCompile(`^(?:\s+|([a-zA-Z_:][a-zA-Z0-9_:]*|\d+(?:ms|[smhdwy])|\d+(?:\.\d+)?(?:e[+-]?\d+)?|"(?:[^"\\]|\\.)*"|=~|!~|!=|>=|<=|==|[-+*/(){}\[\],=<>]))`)
	promName      = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	promDuration  = regexp.MustCompile(`^\d+(?:ms|[smhdwy])$`)
	promNumber    = regexp.MustCompile(`^\d`)
)

// promParser reads as much of PromQL as dashboards and rules here need; everything
// else is an error, so that nothing goes unchecked.
type promParser struct {
	tokens []string
	query  query
}

var errPromEnd = errors.New("the expression ends too early")

func parsePromQL(expr string) (query, error) {
	var p promParser
	for rest := expr; rest != ""; {
		m := promToken.FindStringSubmatch(rest)
		if m == nil {
			return query{}, fmt.Errorf("cannot read %q", rest)
		}
		if m[1] != "" {
			p.tokens = append(p.tokens, m[1])
		}
		rest = rest[len(m[0]):]
	}
	if err := p.expression(""); err != nil {
		return query{}, err
	}
	if len(p.tokens) > 0 {
		return query{}, fmt.Errorf("%q follows", strings.Join(p.tokens, " "))
	}
	return p.query, nil
}

func (p *promParser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *promParser) next() string {
	t := p.peek()
	if t != "" {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *promParser) want(token string) error {
	switch t := p.next(); t {
	case token:
		return nil
	case "":
		return errPromEnd
	default:
		return fmt.Errorf("%q, want %q", t, token)
	}
}

// expression reads operands with operators between them. fn is the function that it
// is an argument of.
func (p *promParser) expression(fn string) error {
	for {
		if err := p.operand(fn); err != nil {
			return err
		}
		if !slices.Contains(promOperators, p.peek()) {
			return nil
		}
		p.next()
		if t := p.peek(); t == "on" || t == "ignoring" {
			p.next()
			if _, err := p.labelList(); err != nil {
				return err
			}
		}
		fn = ""
	}
}

func (p *promParser) operand(fn string) error {
	t := p.next()
	switch {
	case t == "":
		return errPromEnd
	case t == "(":
		if err := p.expression(""); err != nil {
			return err
		}
		return p.want(")")
	case t == "-":
		return p.operand(fn)
	case promNumber.MatchString(t):
		return nil
	case !promName.MatchString(t):
		return fmt.Errorf("%q, want a metric, a function or a number", t)
	case slices.Contains(promAggregations, t):
		return p.aggregation()
	case p.peek() == "(":
		if _, ok := promFunctions[t]; !ok {
			return fmt.Errorf("the function %q is not known", t)
		}
		return p.arguments(t)
	}
	return p.selector(t, fn)
}

func (p *promParser) aggregation() error {
	g := group{from: len(p.query.selectors)}
	var err error
	if p.peek() == "by" {
		p.next()
		if g.labels, err = p.labelList(); err != nil {
			return err
		}
	}
	if err := p.arguments(""); err != nil {
		return err
	}
	if g.to = len(p.query.selectors); g.to == g.from {
		return errors.New("an aggregation of nothing")
	}
	p.query.groups = append(p.query.groups, g)
	return nil
}

func (p *promParser) arguments(fn string) error {
	if err := p.want("("); err != nil {
		return err
	}
	for p.peek() != ")" {
		if err := p.expression(fn); err != nil {
			return err
		}
		if p.peek() == "," {
			p.next()
		} else if p.peek() != ")" {
			return fmt.Errorf("%q, want a comma", p.peek())
		}
	}
	return p.want(")")
}

func (p *promParser) labelList() (labels []string, err error) {
	if err := p.want("("); err != nil {
		return nil, err
	}
	for p.peek() != ")" {
		t := p.next()
		if !promName.MatchString(t) {
			return nil, fmt.Errorf("%q, want a label", t)
		}
		labels = append(labels, t)
		if p.peek() == "," {
			p.next()
		}
	}
	return labels, p.want(")")
}

func (p *promParser) selector(metric, fn string) error {
	s := selector{metric: metric, fn: fn}
	if p.peek() == "{" {
		p.next()
		for p.peek() != "}" {
			label, operator, value := p.next(), p.next(), p.next()
			if !promName.MatchString(label) || !slices.Contains([]string{"=", "!=", "=~", "!~"}, operator) || !strings.HasPrefix(value, `"`) {
				return fmt.Errorf("%s: %q is no matcher", metric, label+operator+value)
			}
			s.labels = append(s.labels, label)
			if p.peek() == "," {
				p.next()
			}
		}
		p.next()
	}
	ranged := p.peek() == "["
	if ranged {
		p.next()
		if t := p.next(); !promDuration.MatchString(t) {
			return fmt.Errorf("%s: %q, want a duration", metric, t)
		}
		if err := p.want("]"); err != nil {
			return err
		}
	}
	if ranged != promFunctions[fn] {
		return fmt.Errorf("%s: %s with a range: %t", metric, fn, ranged)
	}
	p.query.selectors = append(p.query.selectors, s)
	return nil
}

func TestParsePromQL(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]query{
		`up`: {selectors: []selector{{"up", nil, ""}}},
		`sum by (a, b) (rate(x_total{c="1", d=~"2|}"}[5m])) / on (a) clamp_min(y, 0.5)`: {
			selectors: []selector{{"x_total", []string{"c", "d"}, "rate"}, {"y", nil, "clamp_min"}},
			groups:    []group{{[]string{"a", "b"}, 0, 1}},
		},
		`histogram_quantile(0.95, sum by (le) (rate(x_bucket[1h]))) > 1e-3 or -(vector(0))`: {
			selectors: []selector{{"x_bucket", nil, "rate"}}, groups: []group{{[]string{"le"}, 0, 1}},
		},
		`max(a) + max by (s) (b)`: {
			selectors: []selector{{"a", nil, ""}, {"b", nil, ""}}, groups: []group{{nil, 0, 1}, {[]string{"s"}, 1, 2}},
		},
	} {
		got, err := parsePromQL(expr)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v, want %v", expr, got, err, want)
		}
	}
	for _, expr := range []string{
		``, `sum(`, `sum()`, `rate(x)`, `x[5m]`, `sum by (a (x)`, `x{a}`, `x{a="1"`, `x{a==1}`, `guess(x)`, `x y`, `x +`, `x @ 5`, `rate(x[5])`, `sum(x))`, `x{$a="1"}`,
	} {
		if got, err := parsePromQL(expr); err == nil {
			t.Errorf("%s is taken for %v", expr, got)
		}
	}
}
