//go:build unix

package testnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
)

// Reservation is a port that is kept for a server, also while that is not running.
type Reservation struct {
	Port int
	keep *socket
}

// Close gives the port back.
func (r *Reservation) Close() error {
	given.Lock()
	delete(given.ports, r.Port)
	given.Unlock()
	return r.keep.close()
}

// given are the ports of this process that are reserved, since not every system
// can keep them.
var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// Port is [Reserve] until the test ends.
func Port(tb testing.TB) int {
	tb.Helper()
	r, err := Reserve()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r.Port
}

// Reserve finds a port of 127.0.0.1 that is free for TCP and UDP, and of those
// that the system never chooses by itself. A server may listen on it, end, and
// listen on it again; until then connections are refused.
func Reserve() (*Reservation, error) {
	low, high := outside(ephemeral())
	var last error
	for range 1000 {
		port := low + rand.IntN(high-low)
		if !claim(port) {
			continue
		}
		keep, err := take(port)
		if err == nil {
			return &Reservation{Port: port, keep: keep}, nil
		}
		last = err
		given.Lock()
		delete(given.ports, port)
		given.Unlock()
	}
	return nil, fmt.Errorf("no port from %d to %d is free: %w", low, high-1, last)
}

// claim keeps the port from others of this process.
func claim(port int) bool {
	given.Lock()
	defer given.Unlock()
	if given.ports[port] {
		return false
	}
	given.ports[port] = true
	return true
}

// take binds the port where the system lets a server listen all the same.
func take(port int) (*socket, error) {
	keep, err := bind(port)
	if err != nil {
		return nil, err
	}
	for _, network := range []string{"udp4", "udp6"} {
		udp, err := net.ListenPacket(network, fmt.Sprint(":", port))
		if err != nil && (network == "udp4" || errors.Is(err, syscall.EADDRINUSE)) {
			return nil, errors.Join(fmt.Errorf("looking for a free port: %w", err), keep.close())
		}
		if err == nil {
			udp.Close()
		}
	}
	return keep, keep.share()
}

// outside is a range of ports that has none from first to last, which the system
// chooses from: below if there is room, else above.
func outside(first, last int) (low, high int) {
	const lowest, highest, enough = 10000, 65536, 1000
	switch {
	case first-lowest >= enough:
		return lowest, first
	case highest-last-1 >= enough:
		return last + 1, highest
	default: // all are chosen from: what is taken is tried again
		return lowest, highest
	}
}

// Refusing is an address, 127.0.0.1 and a port, that refuses connections until
// the test ends: the port is taken, and nobody listens.
func Refusing(tb testing.TB) string {
	tb.Helper()
	s, err := bind(0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.close(); err != nil {
			tb.Error(err)
		}
	})
	port, err := s.port()
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
