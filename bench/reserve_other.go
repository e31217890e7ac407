//go:build !unix

package main

import "net"

// reserve is a loopback address with a port that was free a moment ago.
func reserve() (addr string, release func() error, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() error { return nil }, l.Close()
}
