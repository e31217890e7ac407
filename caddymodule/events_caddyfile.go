package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseEvents reads the block:
//
//	events {
//		durability async|before_response
//		log database|redis
//		retention <duration>
//		capture none|request|response|both
//		redact <regular expressions...>
//		sink <name> {
//			type <module>
//			from now|beginning
//			batch <number>
//			linger <duration>
//			timeout <duration>
//			max_attempts <number>
//			retry_for <duration>
//			…
//		}
//	}
func parseEvents(d *caddyfile.Dispenser) (*Events, error) {
	if d.NextArg() {
		return nil, d.Errf("events takes no value but a block: events { sink file { path /var/log/llm-proxy/events.jsonl } }")
	}
	e := new(Events)
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option != "sink" && option != "redact" {
			if err := seen.add(d, option); err != nil {
				return nil, err
			}
		}
		var err error
		switch option {
		case "durability":
			e.Durability, err = oneOf(d, durabilities)
		case "log":
			e.Log, err = oneOf(d, eventLogs)
		case "capture":
			e.Capture, err = oneOf(d, captures)
		case "retention":
			e.Retention, err = positiveDuration(d)
		case "redact":
			var patterns []string
			patterns, err = args(d, nil)
			for _, p := range patterns {
				if err == nil && !placeholder.MatchString(p) {
					if _, bad := compilePattern(p); bad != nil {
						err = d.Errf("redact: %v", bad)
					}
				}
			}
			e.Redact = append(e.Redact, patterns...)
		case "sink":
			err = e.parseSink(d)
		default:
			err = unknownOption(d, "durability, log, retention, capture, redact, sink")
		}
		if err != nil {
			return nil, err
		}
	}
	return e, nil
}

// oneOf reads an option that has a few words to choose from.
func oneOf(d *caddyfile.Dispenser, words []string) (string, error) {
	option := d.Val()
	value, err := oneArg(d)
	if err != nil {
		return "", err
	}
	if err := checkWord(value, words); err != nil {
		return "", d.Errf("%s: %v", option, err)
	}
	return value, nil
}

// parseSink reads a sink's block: what every sink has, and the rest for its module,
// which gets a block without the former.
func (e *Events) parseSink(d *caddyfile.Dispenser) error {
	name, err := oneArg(d)
	if err != nil {
		return err
	}
	if err := checkSinkName(name); err != nil {
		return d.Err(err.Error())
	}
	if e.Sinks[name] != nil {
		return d.Errf("sink %s is configured twice", name)
	}
	sink, kind := new(Sink), name
	brace := d.Token()
	brace.Text = "{"
	block := []caddyfile.Token{d.Token(), brace}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		read := sink.option(d.Val(), &kind)
		if read == nil {
			block = append(block, d.NextSegment()...)
			continue
		}
		if err := seen.add(d, d.Val()); err != nil {
			return err
		}
		if err := read(d); err != nil {
			return err
		}
	}
	if block = append(block, d.Token()); d.Val() != "}" {
		block = block[:1] // there was no block
	}
	if err := checkSinkName(kind); err != nil {
		return d.Errf("sink %s: type: %v", name, err)
	}
	id := sinkNamespace + "." + kind
	if _, err := caddy.GetModule(id); err != nil {
		return d.Errf("sink %s: this binary has no module %s; expected type <one of: %s>, or a Caddy built with the module", name, id, sinkTypes())
	}
	rest := caddyfile.NewDispenser(block)
	rest.Next()
	module, err := caddyfile.UnmarshalModule(rest, id)
	if err != nil {
		return err
	}
	sink.SinkRaw = caddyconfig.JSONModuleObject(module, "type", kind, nil)
	if e.Sinks == nil {
		e.Sinks = make(map[string]*Sink)
	}
	e.Sinks[name] = sink
	return nil
}

// option returns what reads an option that every sink has, or nil for one of the
// module's.
func (s *Sink) option(name string, kind *string) func(d *caddyfile.Dispenser) error {
	switch name {
	case "type":
		return func(d *caddyfile.Dispenser) (err error) { *kind, err = oneArg(d); return }
	case "from":
		return func(d *caddyfile.Dispenser) (err error) { s.From, err = oneOf(d, sinkStarts); return }
	case "batch":
		return func(d *caddyfile.Dispenser) (err error) { s.Batch, err = parseCount(d); return }
	case "linger":
		return func(d *caddyfile.Dispenser) (err error) { s.Linger, err = parseDuration(d); return }
	case "timeout":
		return func(d *caddyfile.Dispenser) (err error) { s.Timeout, err = positiveDuration(d); return }
	case "max_attempts":
		return func(d *caddyfile.Dispenser) (err error) { s.MaxAttempts, err = parseCount(d); return }
	case "retry_for":
		return func(d *caddyfile.Dispenser) (err error) { s.RetryFor, err = positiveDuration(d); return }
	}
	return nil
}

func positiveDuration(d *caddyfile.Dispenser) (caddy.Duration, error) {
	option := d.Val()
	value, err := parseDuration(d)
	if err == nil && value == 0 {
		err = d.Errf("%s: must be positive, such as 30s", option)
	}
	return value, err
}
