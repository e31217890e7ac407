package respcache

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/glob"
)

// maxSelector is how long what a purge selects may be; its text is then short
// enough for a NOTIFY of PostgreSQL.
const maxSelector = 2048

// By is what a purge goes by.
type By uint8

// Kinds of selectors.
const (
	ByKey     By = iota + 1 // Value is a primary key in hex
	ByURL                   // Value is path and query, exactly; Method may be given
	ByPrefix                // Value begins the path
	ByPattern               // Value is a glob that the path matches
	ByProject               // Value is a project's id
	ByModel                 // Value is a model's name
	ByAll                   // everything
)

var byNames = map[By]string{
	ByKey: "key", ByURL: "url", ByPrefix: "prefix", ByPattern: "pattern", ByProject: "project", ByModel: "model", ByAll: "all",
}

func (b By) String() string { return byNames[b] }

// Selector says what a purge is about.
type Selector struct {
	By     By
	Value  string
	Method string // ByURL alone; empty: any
}

// Purger is where purges are applied that somebody else was asked for.
type Purger interface {
	// Apply forgets what is selected and tells how many entries that were.
	Apply(Selector) (deleted int, err error)
}

var (
	errSelector = errors.New("expected exactly one of key, url, prefix, pattern, project_id, model and all")
	errText     = errors.New("not a purge")
)

// Check says what is wrong with a selector.
func (s Selector) Check() error {
	switch {
	case byNames[s.By] == "":
		return errSelector
	case s.By == ByAll && (s.Value != "" || s.Method != ""):
		return errSelector
	case s.By != ByURL && s.Method != "":
		return errors.New("method goes with url alone")
	case s.By != ByAll && s.Value == "":
		return fmt.Errorf("%s is empty: to purge everything, say all", s.By)
	case len(s.Value) > maxSelector || len(s.Method) > 32:
		return fmt.Errorf("%s is longer than %d bytes, or method than 32", s.By, maxSelector)
	case s.By == ByKey:
		_, err := ParseKey(s.Value)
		return err
	case (s.By == ByURL || s.By == ByPrefix) && s.Value[0] != '/':
		return fmt.Errorf("%s does not begin with a slash", s.By)
	}
	return nil
}

// NormalizeURL takes scheme and host off a URL, so that what was copied from a
// client works as a selector.
func NormalizeURL(text string) string {
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		return u.RequestURI()
	}
	return text
}

// Matches reports whether an entry is selected.
func (s Selector) Matches(primary *Key, t *Tags) bool {
	switch s.By {
	case ByKey:
		k, err := ParseKey(s.Value)
		return err == nil && k == *primary
	case ByURL:
		path, query, _ := strings.Cut(s.Value, "?")
		return t.Path == path && t.Query == query && (s.Method == "" || strings.EqualFold(s.Method, t.Method))
	case ByPrefix:
		return strings.HasPrefix(t.Path, s.Value)
	case ByPattern:
		return glob.Match(s.Value, t.Path)
	case ByProject:
		return t.Project == s.Value
	case ByModel:
		return t.Model == s.Value
	case ByAll:
		return true
	}
	return false
}

// MarshalText is the selector in one line without spaces at its ends, for the
// channel on which nodes tell each other: kind, and value and method in base64.
func (s Selector) MarshalText() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	b := append([]byte(s.By.String()), ' ')
	b = base64.RawURLEncoding.AppendEncode(b, []byte(s.Value))
	b = append(b, '.')
	return base64.RawURLEncoding.AppendEncode(b, []byte(s.Method)), nil
}

// UnmarshalText reads what MarshalText wrote, and nothing else.
func (s *Selector) UnmarshalText(text []byte) error {
	if len(text) > 16+base64.RawURLEncoding.EncodedLen(maxSelector+32) {
		return errText
	}
	kind, rest, spaced := strings.Cut(string(text), " ")
	value, method, dotted := strings.Cut(rest, ".")
	if !spaced || !dotted {
		return errText
	}
	var got Selector
	for by, name := range byNames {
		if name == kind {
			got.By = by
		}
	}
	strict := base64.RawURLEncoding.Strict()
	v, valueErr := strict.DecodeString(value)
	m, methodErr := strict.DecodeString(method)
	got.Value, got.Method = string(v), string(m)
	if errors.Join(valueErr, methodErr) != nil || strings.ContainsAny(rest, "\r\n") || got.Check() != nil {
		return errText
	}
	*s = got
	return nil
}
