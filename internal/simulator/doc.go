// Package simulator is the built-in provider: one [http.Handler] that answers
// in the wire forms of OpenAI, Anthropic and Gemini without any account, so
// that the product can be tried, loaded and staged against something that
// behaves like the real thing.
//
// Answers are deterministic. The same request yields the same content, the
// same ids and the same usage; only timestamps and request ids differ. Token
// counts follow two rules anybody can check by hand: the prompt costs one
// token per four bytes of its text (rounded up), the answer one per word.
//
// Faults are ordered by model name: "sim-error-429", "sim-slow-150ms",
// "sim-abort" and others, see [Server] for the table. Any other model name
// behaves normally and is echoed in the answer.
package simulator
