// Package redisconn makes the one client of a Redis that several parts share,
// with bounds that keep a Redis that is away from being felt, and knows whether
// Redis answers.
package redisconn
