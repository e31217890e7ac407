package caddymodule

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// once refuses options that are given twice: the first one would silently lose.
type once map[string]bool

func (o once) add(d *caddyfile.Dispenser, option string) error {
	if o[option] {
		return d.Errf("%s is given twice", option)
	}
	o[option] = true
	return nil
}

// unknownOption refuses an option: a silently ignored typo would disable what
// the operator meant.
func unknownOption(d *caddyfile.Dispenser, known string) error {
	return d.Errf("unknown option %q; expected one of: %s", d.Val(), known)
}

// noArg refuses a further argument, and says what to write.
func noArg(d *caddyfile.Dispenser, instead string) error {
	if !d.NextArg() {
		return nil
	}
	return d.Errf("unexpected %q: %s", d.Val(), instead)
}

// oneArg reads the one argument of an option.
func oneArg(d *caddyfile.Dispenser) (string, error) {
	option := d.Val()
	if !d.NextArg() || d.Val() == "" {
		return "", d.Errf("%s needs a value", option)
	}
	value := d.Val()
	if d.NextArg() {
		return "", d.Errf("%s takes one value; quote it if it holds spaces", option)
	}
	return value, nil
}

// args reads one or more arguments and checks those that are literals.
func args(d *caddyfile.Dispenser, check func(string) error) ([]string, error) {
	option := d.Val()
	values := d.RemainingArgs()
	if len(values) == 0 {
		return nil, d.Errf("%s needs at least one value", option)
	}
	for _, v := range values {
		if check == nil || !isLiteral(v) {
			continue
		}
		if err := check(v); err != nil {
			return nil, d.Errf("%s: %v", option, err)
		}
	}
	return values, noBlock(d)
}

// noBlock refuses a block where none belongs.
func noBlock(d *caddyfile.Dispenser) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		return d.Errf("unexpected block with %q", d.Val())
	}
	return nil
}

// isLiteral reports whether a value holds no placeholder, and so can be judged
// before Provision.
func isLiteral(s string) bool { return !strings.Contains(s, "{") }

func parseDuration(d *caddyfile.Dispenser) (caddy.Duration, error) {
	option := d.Val()
	text, err := oneArg(d)
	if err != nil {
		return 0, err
	}
	value, err := caddy.ParseDuration(text)
	if err != nil || value < 0 {
		return 0, d.Errf("%s: %q is not a duration; expected one such as 10s, 5m or 0", option, text)
	}
	return caddy.Duration(value), nil
}

func parseCount(d *caddyfile.Dispenser) (int, error) {
	option := d.Val()
	text, err := oneArg(d)
	if err != nil {
		return 0, err
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 {
		return 0, d.Errf("%s: %q is not a positive whole number", option, text)
	}
	return value, nil
}

func parseSwitch(d *caddyfile.Dispenser) (*bool, error) {
	option := d.Val()
	text, err := oneArg(d)
	if err != nil {
		return nil, err
	}
	var on bool
	switch text {
	case "on":
		on = true
	case "off":
	default:
		return nil, d.Errf("%s: expected on or off", option)
	}
	return &on, nil
}

func checkHeaderName(name string) error {
	if !validHeaderName(name) {
		return fmt.Errorf("%q is not a header name", name)
	}
	return nil
}
