package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// simulateDrain is how long streams may go on after the signal to stop.
const simulateDrain = time.Second

// SimulateOptions configures the provider simulator.
type SimulateOptions struct {
	Listen    string
	Pace      time.Duration // between chunks; 0 means none
	FirstByte time.Duration
	Keys      []string // none: any credential is accepted
}

// Simulate serves the provider simulator until ctx ends.
func Simulate(ctx context.Context, out Output, opt SimulateOptions) error {
	if opt.Pace < 0 || opt.FirstByte < 0 {
		return Usagef("--pace and --first-byte: expected a length of time such as 20ms, or 0")
	}
	if opt.Pace == 0 {
		opt.Pace = -1 // the simulator's own zero means its default
	}
	if _, _, err := net.SplitHostPort(opt.Listen); err != nil {
		return Usagef("--listen: expected an address such as 127.0.0.1:9191")
	}
	listener, err := net.Listen("tcp", opt.Listen)
	if err != nil {
		return fmt.Errorf("%w; give another address with --listen", err)
	}
	if addr, ok := listener.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
		out.Notice("warning: %s can be reached from other machines, and the simulator answers anybody at any length: prefer 127.0.0.1", listener.Addr())
	}
	base := "http://" + listener.Addr().String()
	if err := announce(out, base); err != nil {
		listener.Close()
		return err
	}
	server := &http.Server{
		Handler:           simulator.New(simulator.Options{Pace: opt.Pace, FirstByte: opt.FirstByte, Keys: opt.Keys}),
		ReadHeaderTimeout: dialTimeout,
		IdleTimeout:       2 * time.Minute,
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), simulateDrain)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		err = server.Close() // streams that are still running are cut
		<-stopped
		return err
	}
	if err := <-stopped; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func announce(out Output, base string) error {
	if out.JSON {
		return out.value(map[string]string{"url": base})
	}
	_, err := fmt.Fprintf(out.Out, `Provider simulator at %[1]s

curl -N %[1]s/v1/chat/completions \
  -H 'Authorization: Bearer sk-anything' -H 'Content-Type: application/json' \
  -d '{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hello"}]}'

As a provider of the proxy: base_url %[1]s/v1
`, base)
	return err
}
