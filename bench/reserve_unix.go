//go:build unix

package main

import (
	"fmt"

	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

// reserve is a loopback address for a server to come, or for none: until release
// nobody else gets its port.
func reserve() (addr string, release func() error, err error) {
	r, err := testnet.Reserve()
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("127.0.0.1:%d", r.Port), r.Close, nil
}
