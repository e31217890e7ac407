//go:build unix && !linux

package testnet

// share gives the port back: a server could not listen on it. It stays one that
// the system does not choose, and that this process gives to nobody else.
func (s *socket) share() error { return s.close() }

// ephemeral is the range that BSD systems, macOS among them, choose ports from.
func ephemeral() (first, last int) { return 49152, 65535 }
