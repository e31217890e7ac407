package price

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// match says which names of models an entry of the snapshot is for. Exactly one
// field is set.
type match struct {
	Equals     *string `json:"equals,omitempty"`
	StartsWith *string `json:"starts_with,omitempty"`
	EndsWith   *string `json:"ends_with,omitempty"`
	Contains   *string `json:"contains,omitempty"`
	Regex      *string `json:"regex,omitempty"`
	Or         []match `json:"or,omitempty"`
	And        []match `json:"and,omitempty"`
	Not        *match  `json:"not,omitempty"`

	pattern *regexp.Regexp
}

// maxNesting of rules; the snapshot's have two levels.
const maxNesting = 16

// compile checks the rule and prepares it.
func (m *match) compile(depth int) error {
	if depth > maxNesting {
		return errors.New("match rules are nested too deeply")
	}
	set := 0
	for _, text := range []*string{m.Equals, m.StartsWith, m.EndsWith, m.Contains} {
		if text != nil {
			set++
			*text = strings.ToLower(*text)
		}
	}
	for _, rules := range [][]match{m.Or, m.And} {
		if len(rules) > 0 {
			set++
		}
		for i := range rules {
			if err := rules[i].compile(depth + 1); err != nil {
				return err
			}
		}
	}
	if m.Not != nil {
		set++
		if err := m.Not.compile(depth + 1); err != nil {
			return err
		}
	}
	if m.Regex != nil {
		set++
		pattern, err := regexp.Compile(*m.Regex)
		if err != nil {
			return fmt.Errorf("match: %w", err)
		}
		m.pattern = pattern
	}
	if set != 1 {
		text, _ := json.Marshal(m)
		return fmt.Errorf("match: expected exactly one rule in %s", text)
	}
	return nil
}

// matches compares without regard to case, but for regular expressions.
func (m *match) matches(model, lower string) bool {
	is := func(rule match) bool { return rule.matches(model, lower) }
	switch {
	case m.Equals != nil:
		return lower == *m.Equals
	case m.StartsWith != nil:
		return strings.HasPrefix(lower, *m.StartsWith)
	case m.EndsWith != nil:
		return strings.HasSuffix(lower, *m.EndsWith)
	case m.Contains != nil:
		return strings.Contains(lower, *m.Contains)
	case m.pattern != nil:
		return m.pattern.MatchString(model)
	case m.Not != nil:
		return !is(*m.Not)
	case m.And != nil:
		return !slices.ContainsFunc(m.And, func(rule match) bool { return !is(rule) })
	default:
		return slices.ContainsFunc(m.Or, is)
	}
}
