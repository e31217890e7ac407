// Package testnet gives tests ports of the loopback interface that nobody else
// gets: neither another test nor a connection to somewhere else.
//
// A port that was found free, and let go of, belongs to whoever asks next. Test
// binaries run side by side and make thousands of connections, so that happens.
package testnet
