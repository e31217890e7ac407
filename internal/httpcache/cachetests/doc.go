// Package cachetests holds Mark Nottingham's tests for HTTP caches
// (https://cache-tests.fyi) and runs them against whatever stands between a
// client and an origin: the caching policy alone, or the product over HTTP.
//
// A test is a script. It tells the origin what to answer to each of one to four
// requests, sends them through the cache, and judges by what the client got and the
// origin saw. The definitions in data/ are those of the npm package that
// data/source.json names, under the licence beside them; the interpreter is ours.
package cachetests
