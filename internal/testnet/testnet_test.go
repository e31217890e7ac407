//go:build unix

package testnet

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
)

// TestPort has a server come and go; the port stays the test's.
func TestPort(t *testing.T) {
	address := fmt.Sprint("127.0.0.1:", Port(t))
	for _, listen := range []string{address, address[len("127.0.0.1"):], address} {
		refused(t, address)
		l, err := net.Listen("tcp", listen)
		if err != nil {
			t.Fatalf("a server does not get its port: %v", err)
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("the server is not reached: %v", err)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		accepted.Close() // first, so that this side remembers the connection
		conn.Close()
		l.Close()
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		udp.Close()
	}
	refused(t, address)
}

// TestPortsDiffer asks for many at once; none is one that the system chooses.
func TestPortsDiffer(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]bool{}
	first, last := ephemeral()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				port := Port(t)
				mu.Lock()
				if seen[port] || port >= first && port <= last && first > 11000 {
					t.Errorf("port %d was given to somebody else", port)
				}
				seen[port] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestKeptPort cannot be kept twice, not even by another process.
func TestKeptPort(t *testing.T) {
	r, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	if claim(r.Port) {
		t.Error("the port is given twice")
	}
	if r.keep.fd >= 0 {
		if s, err := bind(r.Port); err == nil {
			s.close()
			t.Error("the port is kept twice")
		} else if !errors.Is(err, syscall.EADDRINUSE) {
			t.Error(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestRefusing refuses, and nobody can listen there.
func TestRefusing(t *testing.T) {
	address := Refusing(t)
	refused(t, address)
	if l, err := net.Listen("tcp", address); err == nil {
		l.Close()
		t.Error("somebody listens on the port")
	}
	refused(t, address)
}

func TestOutside(t *testing.T) {
	for _, test := range []struct{ first, last, low, high int }{
		{32768, 60999, 10000, 32768},
		{49152, 65535, 10000, 49152},
		{1024, 60999, 61000, 65536},
		{10500, 60999, 61000, 65536},
		{1024, 65535, 10000, 65536},
	} {
		if low, high := outside(test.first, test.last); low != test.low || high != test.high {
			t.Errorf("outside %d to %d: %d to %d", test.first, test.last, low, high)
		}
	}
}

func refused(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a connection to %s: %v, want it refused", address, err)
	}
}
