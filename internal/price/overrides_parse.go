package price

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// MaxOverrides is how many bytes of overrides are read.
const MaxOverrides = 1 << 20

// ParseOverrides reads overrides. Errors name the place in the JSON and what is
// expected there.
func ParseOverrides(r io.Reader) (*Overrides, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxOverrides+1))
	if err != nil {
		return nil, fmt.Errorf("reading prices: %w", err)
	}
	o := new(Overrides)
	if err := o.UnmarshalJSON(data); err != nil {
		return nil, err
	}
	return o, nil
}

// MarshalJSON returns what was read.
func (o *Overrides) MarshalJSON() ([]byte, error) {
	if o == nil || o.text == nil {
		return []byte("{}"), nil
	}
	return o.text, nil
}

// UnmarshalJSON reads overrides as ParseOverrides does.
func (o *Overrides) UnmarshalJSON(data []byte) error {
	if len(data) > MaxOverrides {
		return fmt.Errorf("prices are larger than %d bytes", MaxOverrides)
	}
	p := overridesParser{dec: jsontext.NewDecoder(bytes.NewReader(data))}
	providers := make(map[string]*overrideRules)
	err := p.object("providers", func(provider string) error {
		if provider == "" {
			return p.errorf("expected a provider's name or type, or *")
		}
		rules := &overrideRules{exact: make(map[string]*override)}
		providers[provider] = rules
		if err := p.object("models", func(glob string) error { return p.model(rules, glob) }); err != nil {
			return err
		}
		rules.sort()
		return nil
	})
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return p.explain(err, data)
	}
	text := jsontext.Value(bytes.Clone(data))
	if err := text.Compact(); err != nil {
		return p.explain(err, data)
	}
	// The same prices have the same sum, in whatever order and however they are
	// escaped; digits stay as they are, since floating point would lose some.
	canonical := text.Clone()
	if err := canonical.Format(jsontext.ReorderRawObjects(true), jsontext.PreserveRawStrings(false), jsontext.CanonicalizeRawFloats(false), jsontext.CanonicalizeRawInts(false)); err != nil {
		return p.explain(err, data)
	}
	sum := sha256.Sum256(canonical)
	o.text, o.sum, o.providers = text, hex.EncodeToString(sum[:4]), providers
	o.memo.half = projectMemoHalf
	return nil
}

// overridesParser walks through the JSON, of which it refuses duplicate members.
type overridesParser struct {
	dec  *jsontext.Decoder
	path []string
}

func (p *overridesParser) errorf(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if len(p.path) > 0 {
		text = strings.Join(p.path, " > ") + ": " + text
	}
	return errors.New(text)
}

// explain adds the line to errors of syntax.
func (p *overridesParser) explain(err error, data []byte) error {
	if syntax := (*jsontext.SyntacticError)(nil); errors.As(err, &syntax) {
		line := 1 + bytes.Count(data[:min(int(syntax.ByteOffset), len(data))], []byte("\n"))
		return fmt.Errorf("line %d: %w", line, err)
	}
	if errors.Is(err, io.EOF) {
		return errors.New("empty; expected a JSON object of providers")
	}
	return err
}

func (p *overridesParser) end() error {
	if _, err := p.dec.ReadToken(); err == nil {
		return errors.New("more follows after the JSON object")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// object reads an object, whose members visit reads.
func (p *overridesParser) object(of string, visit func(member string) error) error {
	token, err := p.dec.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() != '{' {
		return p.errorf("expected a JSON object of %s", of)
	}
	for p.dec.PeekKind() != '}' {
		token, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		member := token.String()
		p.path = append(p.path, member)
		if err := visit(member); err != nil {
			return err
		}
		p.path = p.path[:len(p.path)-1]
	}
	_, err = p.dec.ReadToken()
	return err
}

func (p *overridesParser) model(rules *overrideRules, glob string) error {
	if glob == "" || len(glob) > maxModel {
		return p.errorf("expected a model's name or a glob of 1 to %d characters, such as gpt-4o*", maxModel)
	}
	o := new(override)
	if err := p.object("prices", func(member string) error { return p.member(o, member) }); err != nil {
		return err
	}
	if err := o.complete(); err != nil {
		return p.errorf("%v", err)
	}
	lower := strings.ToLower(glob)
	if strings.ContainsAny(lower, "*?") {
		for _, g := range rules.globs {
			if g.glob == lower {
				return p.errorf("appears twice, in different case")
			}
		}
		rules.globs = append(rules.globs, overrideGlob{lower, o})
		return nil
	}
	if rules.exact[lower] != nil {
		return p.errorf("appears twice, in different case")
	}
	rules.exact[lower] = o
	return nil
}

func (p *overridesParser) member(o *override, member string) (err error) {
	switch member {
	case "free":
		token, err := p.dec.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() != 't' {
			return p.errorf("expected true; leave it out otherwise")
		}
		o.free = true
	case "max_input_tokens":
		o.limits.maxInput, err = p.count()
	case "max_output_tokens":
		o.limits.maxOutput, err = p.count()
	case "context_window":
		o.limits.contextWindow, err = p.count()
	case "service_tiers":
		err = p.object("service tiers", func(tier string) error { return p.tier(o, tier) })
	default:
		o.priced = true
		err = p.rate(&o.rates, member, "free, max_input_tokens, max_output_tokens, context_window, service_tiers")
	}
	return err
}

func (p *overridesParser) tier(o *override, tierName string) error {
	if tierName == "" || isStandard(tierName) {
		return p.errorf("the standard tier's prices stand beside service_tiers")
	}
	t := &overrideTier{name: strings.ToLower(tierName)}
	prices := false
	err := p.object("prices, or one with multiplier", func(member string) error {
		if member != "multiplier" {
			prices = true
			return p.rate(&t.rates, member, "multiplier")
		}
		text, err := p.decimal()
		if err != nil {
			return err
		}
		t.by.numerator, err = usd.ParseDecimal(text, multiplierPlaces)
		if err != nil || t.by.numerator == 0 || t.by.numerator > 1000*multiplierScale {
			return p.errorf(`expected a factor above 0 and up to 1000 with at most %d decimal places, such as "0.5"`, multiplierPlaces)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if prices == (t.by != multiplier{}) {
		return p.errorf("expected either multiplier or prices")
	}
	for _, x := range o.tiers {
		if x.name == t.name {
			return p.errorf("appears twice, in different case")
		}
	}
	o.tiers = append(o.tiers, t)
	return p.checkSteps(&t.rates)
}

// rate reads the price called member, or those of long prompts.
func (p *overridesParser) rate(into *rates, member, others string) error {
	if member == "long_context" {
		return p.object("token counts", func(above string) error { return p.longContext(into, above) })
	}
	n, ok := overrideNames[member]
	if !ok {
		return p.errorf("unknown; expected one of %s, long_context, %s", rateNames(true), others)
	}
	text, err := p.decimal()
	if err != nil {
		return err
	}
	base, err := n.rate(text)
	if err != nil {
		return p.errorf("%v", err)
	}
	into[n.what].base, into[n.what].known = base, true
	return nil
}

func (p *overridesParser) longContext(into *rates, text string) error {
	above, err := strconv.ParseInt(text, 10, 64)
	if err != nil || above < 1 || above > maxTokens || strconv.FormatInt(above, 10) != text {
		return p.errorf("expected the number of tokens above which the prices hold, such as 200000")
	}
	return p.object("prices", func(member string) error {
		n, ok := overrideNames[member]
		if !ok || n.factor != 0 {
			return p.errorf("expected one of %s", rateNames(false))
		}
		decimal, err := p.decimal()
		if err != nil {
			return err
		}
		value, err := n.rate(decimal)
		if err != nil {
			return p.errorf("%v", err)
		}
		into[n.what].addStep(step{above, value}) // members are unique, so it is new
		return nil
	})
}

func (p *overridesParser) count() (int64, error) {
	token, err := p.dec.ReadToken()
	if err != nil {
		return 0, err
	}
	if token.Kind() != '0' {
		return 0, p.errorf("expected a number of tokens")
	}
	n, err := parseCount(token.String())
	if err != nil {
		return 0, p.errorf("%v", err)
	}
	return n, nil
}

func (p *overridesParser) decimal() (string, error) {
	token, err := p.dec.ReadToken()
	if err != nil {
		return "", err
	}
	if kind := token.Kind(); kind != '0' && kind != '"' {
		return "", p.errorf("%v", usd.ErrDecimal)
	}
	return token.String(), nil
}
