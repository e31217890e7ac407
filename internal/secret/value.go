package secret

import (
	"fmt"
	"log/slog"
	"unique"
)

const redacted = "[redacted]"

// Value is a secret string that prints as "[redacted]" everywhere: fmt verbs,
// JSON, slog and zap. Only [Value.Reveal] returns the text, so that a search for
// Reveal finds every place where a secret leaves its wrapper. Values of the same
// text are equal; the zero Value is the empty secret.
type Value struct {
	// A pointer inside, because fmt calls no methods on unexported fields of
	// somebody else's struct, nor for %p and a wrong %w: it prints what it finds.
	text unique.Handle[string]
}

// NewValue wraps text.
func NewValue(text string) Value {
	if text == "" {
		return Value{}
	}
	return Value{unique.Make(text)}
}

// Reveal returns the secret itself.
func (v Value) Reveal() string {
	if v.IsZero() {
		return ""
	}
	return v.text.Value()
}

// IsZero reports whether the secret is empty.
func (v Value) IsZero() bool { return v == Value{} }

// Last4 returns the last four characters of secrets long enough (12) for that
// to tell nothing, else "". It is what the management API shows of a key.
func (v Value) Last4() string {
	text := v.Reveal()
	if len(text) < 12 {
		return ""
	}
	return text[len(text)-4:]
}

// String implements [fmt.Stringer].
func (v Value) String() string { return redacted }

// GoString implements [fmt.GoStringer]: Caddy's UsagePool prints values with %#v
// when a reference count goes wrong.
func (v Value) GoString() string { return redacted }

// Format implements [fmt.Formatter], for every other verb.
func (v Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText keeps the secret out of JSON, XML and zap.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer].
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }
