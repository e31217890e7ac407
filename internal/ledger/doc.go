// Package ledger keeps quotas and budgets, strictly: what all nodes that share a
// database let through together never exceeds a limit, however many requests come at
// once and however a process ends.
//
// Each process leases amounts from the database and spends them in memory, so that a
// request costs no SQL while its process has a lease. docs/limits.md has the argument.
package ledger
