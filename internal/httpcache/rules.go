package httpcache

import "time"

// Mode says which requests the cache is for.
type Mode uint8

const (
	Off    Mode = iota
	OptIn       // GET by RFC 9111, POST if the client asks
	Always      // GET by RFC 9111, every POST
)

// Scope says who shares stored responses. It is part of the cache's key, which
// is not made here.
type Scope uint8

const (
	Project Scope = iota // the tokens of a project
	Token                // nobody
	Shared               // everybody
)

// Rules is what the operator decided. The zero value caches nothing.
type Rules struct {
	Mode  Mode
	Scope Scope
	// TTL is the lifetime of a POST's response under Always, and the longest one
	// that a client may ask for.
	TTL time.Duration
	// StaleIfError and StaleWhileRevalidate apply to responses that do not say
	// anything about it themselves.
	StaleIfError         time.Duration
	StaleWhileRevalidate time.Duration
	// Fields are stored besides those that always are; may be nil.
	Fields *Fields
}
