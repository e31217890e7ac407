package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/caddymodule/guest"
	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	sinkNamespace         = "llm_proxy.sinks"
	defaultEventRetention = 168 * time.Hour
)

// What the options of events may be; the first one is the default.
var (
	durabilities = []string{"async", "before_response"}
	eventLogs    = []string{"database", "redis"}
	captures     = []string{"none", "request", "response", "both"}
	sinkStarts   = []string{"now", "beginning"}
)

// Events says how the requests that passed authentication are recorded, and where
// the records go.
type Events struct {
	// When a request's event must be in the log: "async", soon after the response
	// (within 20 ms, many at once), or "before_response", before the client has
	// the last byte of it. Default: async.
	Durability string `json:"durability,omitempty"`

	// Where the log is: "database", or "redis": then a stream in the app's Redis takes
	// the events, which come into the database from there, and the database takes them
	// itself while Redis is away. Default: database.
	Log string `json:"log,omitempty"`

	// How long events stay in the log. Those that a sink does not have yet stay
	// longer. Default: 168h.
	Retention caddy.Duration `json:"retention,omitempty"`

	// Which bodies become part of the events: "none", "request", "response" or
	// "both". They are stored, and sent to every sink. Default: none, so that
	// no prompt and no answer is kept.
	Capture string `json:"capture,omitempty"`

	// Regular expressions: what they match in captured bodies is replaced by
	// [redacted] before anything is stored.
	Redact []string `json:"redact,omitempty"`

	// Where events go, by a name that keeps the sink's place in the log: a sink that
	// is renamed is a new one.
	Sinks map[string]*Sink `json:"sinks,omitempty"`
}

// Sink is one receiver of events, and how they are delivered to it.
type Sink struct {
	// The module that delivers.
	SinkRaw json.RawMessage `json:"sink" caddy:"namespace=llm_proxy.sinks inline_key=type"`

	// Where a sink begins that this database has not seen yet: "now", with what is
	// still to come, or "beginning", with the oldest event of the log. Default: now.
	From string `json:"from,omitempty"`

	// How many events are delivered at once, at most. Default: 100.
	Batch int `json:"batch,omitempty"`

	// How long a batch that is not full waits for more. Default: 200ms.
	Linger caddy.Duration `json:"linger,omitempty"`

	// How long one attempt may take. Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// A batch is given up when it was tried so many times, and for so long. Events
	// that are given up become dead letters. Defaults: 12 and 1h.
	MaxAttempts int            `json:"max_attempts,omitempty"`
	RetryFor    caddy.Duration `json:"retry_for,omitempty"`
}

// eventsConfig is Events, resolved.
type eventsConfig struct {
	beforeResponse                  bool
	throughRedis                    bool // by way of a stream in the app's Redis
	retention                       time.Duration
	captureRequest, captureResponse bool
	redact                          []*regexp.Regexp
	sinks                           []delivery.Spec // by name
}

// eventsConfig checks and resolves the options, and loads the sinks' modules.
// Nothing outside the process is touched.
func (a *App) eventsConfig(ctx caddy.Context) (eventsConfig, error) {
	cfg := eventsConfig{retention: defaultEventRetention}
	if a.Events == nil {
		return cfg, nil
	}
	if err := a.Events.resolve(&cfg); err != nil {
		return cfg, fmt.Errorf("llm_proxy > events > %w", err)
	}
	if cfg.throughRedis && a.Redis == nil {
		return cfg, errors.New("llm_proxy > events > log: redis needs the app's Redis: add the option redis, as in llm_proxy { redis redis://127.0.0.1:6379/0 }")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Events.Sinks)) {
		spec, err := a.Events.Sinks[name].provision(ctx, name, a.redisSettings)
		if err != nil {
			return cfg, fmt.Errorf("llm_proxy > events > sink %s%w", name, err)
		}
		cfg.sinks = append(cfg.sinks, spec)
	}
	return cfg, nil
}

func (e *Events) resolve(cfg *eventsConfig) error {
	for _, word := range []struct {
		option, value string
		allowed       []string
	}{{"durability", e.Durability, durabilities}, {"log", e.Log, eventLogs}, {"capture", e.Capture, captures}} {
		if err := checkWord(word.value, word.allowed); word.value != "" && err != nil {
			return fmt.Errorf("%s: %w", word.option, err)
		}
	}
	cfg.beforeResponse = e.Durability == "before_response"
	cfg.throughRedis = e.Log == "redis"
	cfg.captureRequest = e.Capture == "request" || e.Capture == "both"
	cfg.captureResponse = e.Capture == "response" || e.Capture == "both"
	switch {
	case e.Retention < 0:
		return errors.New("retention: must be positive, such as 168h")
	case e.Retention > 0:
		cfg.retention = duration(e.Retention)
	}
	for i, text := range e.Redact {
		if placeholder.MatchString(text) { // braces mean something else in an expression
			var err error
			if text, err = resolve(text); err != nil {
				return fmt.Errorf("redact %d: %w", i+1, err)
			}
		}
		pattern, err := compilePattern(text)
		if err != nil {
			return fmt.Errorf("redact %d: %w", i+1, err)
		}
		cfg.redact = append(cfg.redact, pattern)
	}
	return nil
}

// provision checks a sink and loads its module. Its errors go on after the name.
func (s *Sink) provision(ctx caddy.Context, name string, redis func() (*redisconn.Settings, error)) (delivery.Spec, error) {
	if err := checkSinkName(name); err != nil {
		return delivery.Spec{}, fmt.Errorf(": %w", err)
	}
	if s == nil || len(s.SinkRaw) == 0 {
		return delivery.Spec{}, fmt.Errorf(" > sink: expected a module with its type, one of: %s", sinkTypes())
	}
	if err := checkWord(s.From, sinkStarts); s.From != "" && err != nil {
		return delivery.Spec{}, fmt.Errorf(" > from: %w", err)
	}
	if s.Batch < 0 || s.Linger < 0 || s.Timeout < 0 || s.MaxAttempts < 0 || s.RetryFor < 0 {
		return delivery.Spec{}, errors.New(": batch, linger, timeout, max_attempts and retry_for must not be negative")
	}
	loaded, err := ctx.LoadModule(s, "SinkRaw")
	if err != nil {
		return delivery.Spec{}, fmt.Errorf(" > %w", err)
	}
	module, ok := loaded.(guest.Sink)
	if !ok {
		return delivery.Spec{}, fmt.Errorf(": the module is not a sink, as it has no method Deliver(context.Context, []guest.Event) error; it is %T", loaded)
	}
	if user, ok := module.(redisUser); ok {
		settings, err := redis()
		if err == nil {
			err = user.useRedis(settings)
		}
		if err != nil {
			return delivery.Spec{}, fmt.Errorf(" > %w", err)
		}
	}
	return delivery.Spec{
		Name: name, Sink: module, FromBeginning: s.From == "beginning",
		Batch: s.Batch, Linger: duration(s.Linger), Timeout: duration(s.Timeout),
		Backoff: delivery.Backoff{Attempts: s.MaxAttempts, For: duration(s.RetryFor)},
	}, nil
}

// placeholder is a value that is nothing but one.
var placeholder = regexp.MustCompile(`^\{[a-z_]+\.[^{}]+\}$`)

// compilePattern compiles what is to be redacted.
func compilePattern(text string) (*regexp.Regexp, error) {
	pattern, err := regexp.Compile(text)
	if err == nil && pattern.MatchString("") {
		err = fmt.Errorf("%q matches the empty text, and so everything", text)
	}
	return pattern, err
}

func checkWord(value string, words []string) error {
	if !slices.Contains(words, value) {
		return fmt.Errorf("%q is not known; expected %s", value, strings.Join(words, " or "))
	}
	return nil
}

// checkSinkName holds names to what is readable in metrics and paths, and keeps
// them off the log's other readers.
func checkSinkName(name string) error {
	if name == storage.RollUpCursor {
		return fmt.Errorf("%q is the name of something else that reads the log; choose another", name)
	}
	ok := name != "" && len(name) <= 64
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	}
	if !ok {
		return fmt.Errorf("%q is not a name for a sink: expected up to 64 of a-z, 0-9, _ and -", name)
	}
	return nil
}

// sinkTypes lists the sinks that this binary has.
func sinkTypes() string {
	var types []string
	for _, m := range caddy.GetModules(sinkNamespace) {
		types = append(types, m.ID.Name())
	}
	slices.Sort(types)
	return strings.Join(types, ", ")
}
