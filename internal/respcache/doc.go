// Package respcache keeps responses: under which key, in which form, in memory and
// in Redis, and until when or until which purge. What may be kept, and how long it
// is fresh, others decide.
package respcache
