// Package eventredis puts a Redis stream in front of the event log: events are
// safe as soon as Redis has them, and one node at a time moves them into the
// database, from where sinks and sums take them as ever. While Redis is away the
// database takes events at once.
package eventredis
