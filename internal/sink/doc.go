// Package sink has the built-in receivers of events: a file, a webhook, an
// OpenTelemetry collector, a Redis stream. Each is a [delivery.Sink]: it tries once and
// says what came of it; when to try again is the engine's.
package sink
