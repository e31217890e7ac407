// Package relay tells the other nodes of an installation over Redis pub/sub what
// changed, and hears it from them. Redis promises no delivery: a node that may have
// missed something is told so, and then trusts nothing that it remembers.
package relay
