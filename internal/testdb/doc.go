// Package testdb runs throw-away PostgreSQL and Redis servers for tests, on free
// ports of the loopback interface and with their data in a temporary directory.
//
// One server of each kind is shared by all tests of a test binary; a test that
// stops, kills or freezes its server starts one of its own. Every server ends
// with the test binary, however that ends. A server program that is not
// installed fails the test: a test that did not run must not look like one that
// passed.
package testdb
