// Package httpcache decides what an HTTP cache may do, as RFC 9111 has it and the
// product narrows or widens it: whether a response may be stored and for how
// long, and whether a stored one answers a request. It stores nothing, reads no
// clock and knows no connection; every function is pure, but for the headers
// that some of them are told to write to.
//
// A request is read once, [NewRequest]. [Evaluate] says what to do with it, given
// what the store has; [Consider] whether the provider's answer is to be stored,
// and as what; [Freshen] what a 304 makes of a stored answer.
package httpcache
