package price

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

//go:embed data/prices.json.gz
var embedded []byte

//go:embed data/source.json
var embeddedSource []byte

//go:embed data/LICENSE
var licence string

// Source says where the embedded table comes from.
type Source struct {
	Package   string `json:"package"` // of npm
	Version   string `json:"version"`
	Date      string `json:"date"` // of that version
	Integrity string `json:"integrity"`
	Licence   string `json:"licence"`
	Providers int    `json:"providers"`
	Models    int    `json:"models"`
	SHA256    string `json:"sha256"` // of prices.json.gz
}

// EmbeddedSource returns where the embedded table comes from.
func EmbeddedSource() (Source, error) {
	var s Source
	if err := json.Unmarshal(embeddedSource, &s); err != nil {
		return s, fmt.Errorf("reading the source of the embedded prices: %w", err)
	}
	return s, nil
}

// Licence is the licence of the embedded table, with its copyright notice.
func Licence() string { return licence }

// oneRate is the provider whose models have the same price for all kinds of input,
// unless the table says otherwise.
const oneRate = "google"

// maxSnapshot is what the embedded table may unpack to.
const maxSnapshot = 16 << 20

// snapshot is the embedded table.
type snapshot struct {
	name      string // with its version
	providers map[string]*snapshotProvider
}

type snapshotProvider struct {
	ID       string          `json:"id"`
	Fallback []string        `json:"fallback_model_providers,omitempty"` // whose models it serves as well
	Models   []snapshotModel `json:"models"`
}

type snapshotModel struct {
	ID             string           `json:"id"`
	Match          match            `json:"match"`
	ContextWindow  json.Number      `json:"context_window,omitempty"`
	MinAudioMillis int64            `json:"min_audio_millis,omitempty"`
	Prices         []snapshotPrices `json:"prices"` // none: known, but without a price

	limits  limits
	media   bool // costs as much as text where nothing else is said
	periods []period[*rates]
}

type snapshotPrices struct {
	Constraint *constraint              `json:"constraint,omitempty"`
	Prices     map[string]snapshotPrice `json:"prices"`
}

// snapshotPrice is a decimal, or one by length of the prompt.
type snapshotPrice struct {
	Base  json.Number
	Tiers []snapshotTier
}

type snapshotTier struct {
	Start json.Number `json:"start"`
	Price json.Number `json:"price"`
}

// UnmarshalJSON reads a number or an object.
func (p *snapshotPrice) UnmarshalJSON(data []byte) error {
	if data[0] != '{' {
		return json.Unmarshal(data, &p.Base)
	}
	var tiered struct {
		Base  json.Number    `json:"base"`
		Tiers []snapshotTier `json:"tiers"`
	}
	if err := strict(data, &tiered); err != nil {
		return err
	}
	p.Base, p.Tiers = tiered.Base, tiered.Tiers
	return nil
}

// loadEmbedded reads the embedded table, once.
var loadEmbedded = sync.OnceValues(func() (*snapshot, error) {
	source, err := EmbeddedSource()
	if err != nil {
		return nil, err
	}
	unpack, err := gzip.NewReader(bytes.NewReader(embedded))
	if err != nil {
		return nil, fmt.Errorf("unpacking the embedded prices: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(unpack, maxSnapshot))
	if err != nil {
		return nil, fmt.Errorf("unpacking the embedded prices: %w", err)
	}
	providers, err := parseSnapshot(data)
	if err != nil {
		return nil, fmt.Errorf("reading the embedded prices: %w", err)
	}
	short := source.Package[strings.LastIndexByte(source.Package, '/')+1:]
	return &snapshot{name: short + "@" + source.Version, providers: providers}, nil
})

// CheckSnapshot reports what in a table, unpacked, could not be used as the
// embedded one, and how many models it holds otherwise.
func CheckSnapshot(data []byte) (providers, models int, err error) {
	parsed, err := parseSnapshot(data)
	for _, p := range parsed {
		models += len(p.Models)
	}
	return len(parsed), models, err
}

func parseSnapshot(data []byte) (map[string]*snapshotProvider, error) {
	var list []*snapshotProvider
	if err := strict(data, &list); err != nil {
		return nil, err
	}
	providers := make(map[string]*snapshotProvider, len(list))
	for _, p := range list {
		if providers[p.ID] != nil {
			return nil, fmt.Errorf("provider %s appears twice", p.ID)
		}
		providers[p.ID] = p
		for i := range p.Models {
			p.Models[i].media = p.ID == oneRate
			if err := p.Models[i].compile(); err != nil {
				return nil, fmt.Errorf("%s > %s: %w", p.ID, p.Models[i].ID, err)
			}
		}
	}
	for _, p := range list {
		for _, id := range p.Fallback {
			if providers[id] == nil {
				return nil, fmt.Errorf("%s falls back to %s, which is not there", p.ID, id)
			}
		}
	}
	return providers, nil
}

func (m *snapshotModel) compile() error {
	if err := m.Match.compile(0); err != nil {
		return err
	}
	if m.ContextWindow != "" {
		n, err := parseCount(string(m.ContextWindow))
		if err != nil {
			return fmt.Errorf("context_window: %w", err)
		}
		m.limits.contextWindow = n
	}
	m.limits.minAudioMillis = m.MinAudioMillis
	for _, p := range m.Prices {
		if p.Constraint != nil {
			if err := p.Constraint.compile(); err != nil {
				return err
			}
		}
		r := new(rates)
		for key, price := range p.Prices {
			if err := r.set(key, price); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		m.periods = append(m.periods, period[*rates]{p.Constraint, r})
	}
	return nil
}

func (r *rates) set(key string, price snapshotPrice) error {
	n, ok := snapshotNames[key]
	if !ok {
		return errors.New("unknown kind of price; describe it in counter.go")
	}
	base, err := n.rate(string(price.Base))
	if err != nil {
		return err
	}
	value := rate{known: true, base: base}
	for _, t := range price.Tiers {
		above, err := parseCount(string(t.Start))
		if err != nil {
			return fmt.Errorf("tier: %w", err)
		}
		dear, err := n.rate(string(t.Price))
		if err != nil {
			return fmt.Errorf("tier: %w", err)
		}
		if n.factor != 0 {
			return errors.New("only prices of tokens can depend on the length of the prompt")
		}
		if !value.addStep(step{above, dear}) {
			return fmt.Errorf("tier %d appears twice", above)
		}
	}
	r[n.what] = value
	return nil
}

// writtenDate is a date in the middle of a model's name, as some write it.
var writtenDate = regexp.MustCompile(`-(20\d{2})(\d{2})(\d{2})(-|:|$)`)

// find returns the entry for a model, and its provider's prices by time.
func (s *snapshot) find(provider, model string) *snapshotModel {
	p := s.providers[provider]
	if p == nil {
		return nil
	}
	if m := s.match(p, model); m != nil {
		return m
	}
	dated := hyphenatedDate(model)
	if dated == model {
		return nil
	}
	return s.match(p, dated)
}

// hyphenatedDate writes a date in a model's name with hyphens: versions of models are
// dated as 20250131 or 2025-01-31.
func hyphenatedDate(model string) string {
	return writtenDate.ReplaceAllStringFunc(model, func(text string) string {
		part := writtenDate.FindStringSubmatch(text)
		date := part[1] + "-" + part[2] + "-" + part[3]
		if _, err := time.Parse(time.DateOnly, date); err != nil {
			return text
		}
		return "-" + date + part[4]
	})
}

func (s *snapshot) match(p *snapshotProvider, model string) *snapshotModel {
	lower := strings.ToLower(model)
	if m := p.match(model, lower); m != nil {
		return m
	}
	for _, id := range p.Fallback {
		if m := s.providers[id].match(model, lower); m != nil {
			return m
		}
	}
	return nil
}

func (p *snapshotProvider) match(model, lower string) *snapshotModel {
	for i := range p.Models {
		if p.Models[i].Match.matches(model, lower) {
			return &p.Models[i]
		}
	}
	return nil
}

func strict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("more follows after the value")
	}
	return nil
}

// parseCount reads a number of tokens, which may be written as 2e5.
func parseCount(text string) (int64, error) {
	n, err := usd.ParseDecimal(text, 0)
	if err != nil || n == 0 || n > maxTokens {
		return 0, fmt.Errorf("expected a number of tokens from 1 to %d", int64(maxTokens))
	}
	return int64(n), nil
}

// maxTokens is more than any model reads.
const maxTokens = 1_000_000_000_000
