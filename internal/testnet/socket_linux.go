package testnet

import (
	"fmt"
	"os"
	"syscall"
)

// share lets servers listen on the port that the socket keeps. SO_REUSEADDR, which
// they set as well, allows that as long as only one of all listens; set after the
// port was taken, it does not let two sockets take it that only keep it.
func (s *socket) share() error {
	if err := syscall.SetsockoptInt(s.fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("sharing a port: %w", err)
	}
	return nil
}

// ephemeral is the range that the system chooses ports from.
func ephemeral() (first, last int) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(text), &first, &last)
	}
	if err != nil {
		return 32768, 60999
	}
	return first, last
}
