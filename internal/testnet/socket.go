//go:build unix

package testnet

import (
	"fmt"
	"syscall"
)

// socket has a port of 127.0.0.1 and does not listen.
type socket struct{ fd int }

// bind takes the port, if nobody has it in any way; 0 stands for any.
func bind(port int) (*socket, error) {
	syscall.ForkLock.RLock() // a child process must not keep the port
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("taking port %d: %w", port, err)
	}
	return &socket{fd}, nil
}

func (s *socket) port() (int, error) {
	address, err := syscall.Getsockname(s.fd)
	if err != nil {
		return 0, fmt.Errorf("asking for the port: %w", err)
	}
	return address.(*syscall.SockaddrInet4).Port, nil
}

func (s *socket) close() error {
	if s.fd < 0 {
		return nil
	}
	err := syscall.Close(s.fd)
	s.fd = -1
	if err != nil {
		return fmt.Errorf("giving a port back: %w", err)
	}
	return nil
}
