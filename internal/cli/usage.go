package cli

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// usageError is a mistake in how a command was called.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// Usagef makes an error of the caller's: the process exits with 2 instead of 1.
func Usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// IsUsage reports whether the caller made the mistake.
func IsUsage(err error) bool {
	var u *usageError
	return errors.As(err, &u)
}

// OneLine makes a text safe for one line of a terminal: no line breaks, and no
// control characters that a server could steer the terminal with.
func OneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, text)
	return strings.TrimSpace(text)
}
