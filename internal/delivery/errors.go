package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// PermanentError says that the same events will never be accepted. See [Permanent].
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PermanentError) Unwrap() error { return e.Err }

// Permanent says that trying the same events again is of no use, as the receiver
// refuses what they are. A batch is then divided until the events that are refused
// stand alone; those become dead letters, and the others are delivered.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &PermanentError{err}
}

// RejectedError says which events of a batch were refused for good. See [Reject].
type RejectedError struct{ Events map[int]error }

func (e *RejectedError) Error() string {
	indices := slices.Sorted(maps.Keys(e.Events))
	if len(indices) == 0 {
		return "no event refused"
	}
	return fmt.Sprintf("%d events refused, the first one: %v", len(indices), e.Events[indices[0]])
}

// Reject says that the receiver has all events of the batch but these, by their
// index, which it will never accept. They become dead letters. With an empty map
// it is nil, as nothing is refused.
func Reject(events map[int]error) error {
	if len(events) == 0 {
		return nil
	}
	return &RejectedError{events}
}

// RetryAfterError says when to try again. See [RetryAfter].
type RetryAfterError struct {
	After time.Duration
	Err   error
}

func (e *RetryAfterError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RetryAfterError) Unwrap() error { return e.Err }

// RetryAfter says that the receiver asked not to be tried again before a time has
// passed.
func RetryAfter(after time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &RetryAfterError{after, err}
}

const maxReason = 300 // bytes of an error that are shown and kept

// Reason is an error's text as it is shown to people: one line of bounded length.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > 4*maxReason {
		text = text[:4*maxReason]
	}
	text = strings.ToValidUTF8(text, "")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) <= maxReason {
		return text
	}
	cut := maxReason
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// attempt calls the sink once, and takes a panic for a refusal: what made it panic
// would do so again.
func attempt(ctx context.Context, s Sink, events []Event, logger *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("the sink panicked", "panic", Reason(fmt.Errorf("%v", p)))
			err = Permanent(errors.New("the sink panicked; see the log"))
		}
	}()
	return s.Deliver(ctx, events)
}
