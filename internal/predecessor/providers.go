package predecessor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxProviders bounds api_providers.yaml; those that people write have a few kilobytes.
const maxProviders = 1 << 20

// Providers is an api_providers.yaml.
type Providers struct {
	Default string         `yaml:"default_api"`
	APIs    map[string]API `yaml:"apis"`
}

// API is a provider in it.
type API struct {
	BaseURL         string              `yaml:"base_url"`
	Endpoints       []string            `yaml:"allowed_endpoints"` // prefixes
	Methods         []string            `yaml:"allowed_methods"`
	Params          map[string][]string `yaml:"param_whitelist"`
	Origins         []string            `yaml:"allowed_origins"`
	RequiredHeaders []string            `yaml:"required_headers"`
	Timeouts        struct {
		Request        string `yaml:"request"`
		ResponseHeader string `yaml:"response_header"`
		IdleConnection string `yaml:"idle_connection"`
		FlushInterval  string `yaml:"flush_interval"`
	} `yaml:"timeouts"`
	Connection struct {
		MaxIdle        int `yaml:"max_idle_conns"`
		MaxIdlePerHost int `yaml:"max_idle_conns_per_host"`
	} `yaml:"connection"`
}

// ReadProviders reads an api_providers.yaml. Where the predecessor goes on with
// defaults, or without a rule, this is an error: a rule that is misspelt was meant
// to restrict something.
func ReadProviders(r io.Reader) (*Providers, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxProviders+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxProviders {
		return nil, fmt.Errorf("it is larger than %d bytes", maxProviders)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var p Providers
	switch err := dec.Decode(&p); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty")
	case err != nil:
		return nil, explainYAML(err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one document")
	}
	return &p, p.check()
}

// Words about Go in the errors of the parser.
var (
	unknownPattern = regexp.MustCompile(` not found in type \S+`)
	typePattern    = regexp.MustCompile(` into \S+`)
)

func explainYAML(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if e := (*yaml.TypeError)(nil); errors.As(err, &e) {
		text = strings.Join(e.Errors, "; ")
	}
	text = unknownPattern.ReplaceAllString(text, " is not known: correct or remove it")
	return errors.New(typePattern.ReplaceAllString(text, ": another kind of value is expected"))
}

// check refuses what the predecessor would.
func (p *Providers) check() error {
	if len(p.APIs) == 0 {
		return errors.New("apis: there is no provider")
	}
	if _, ok := p.APIs[p.Default]; p.Default != "" && !ok {
		return fmt.Errorf("default_api: %q is not one of apis", p.Default)
	}
	for _, name := range p.names() {
		api := p.APIs[name]
		for _, v := range []struct {
			key    string
			absent bool
		}{{"base_url", api.BaseURL == ""}, {"allowed_endpoints", len(api.Endpoints) == 0}, {"allowed_methods", len(api.Methods) == 0}} {
			if v.absent {
				return fmt.Errorf("apis.%s.%s: is required", name, v.key)
			}
		}
	}
	return nil
}

func (p *Providers) names() []string { return slices.Sorted(maps.Keys(p.APIs)) }
