// Package e2e tests the built binary from outside: official SDKs, raw sockets
// and the management API on one side, a simulated or scripted provider on the
// other. It has no code but its tests; README.md tells how to run one.
package e2e
