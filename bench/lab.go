package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// lab is everything that measurements need: the provider, and the variants,
// which are started when first asked for.
type lab struct {
	opts     options
	pins     pins
	dir      string // temporary
	roots    string // file with the provider's certificate
	upstream *process
	info     upstreamInfo
	stdin    io.Closer // the provider ends with it
	servers  []*server // in the order of their start

	pg          *postgresServer // nil until first asked for
	after       []func() error  // ends what the servers used, after them
	populations []*population
}

// server is a running Caddy.
type server struct {
	name    string
	addr    string
	token   string // of a client, for governed ones
	process *process
}

func openLab(ctx context.Context, o options) (_ *lab, err error) {
	l := &lab{opts: o}
	if l.pins, err = newPins(ctx); err != nil {
		return nil, err
	}
	if l.opts.caddy, err = filepath.Abs(o.caddy); err != nil {
		return nil, err
	}
	if l.dir, err = os.MkdirTemp("", "llm-proxy-bench-"); err != nil {
		return nil, err
	}
	if err := l.startUpstream(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// close ends every child, the youngest first, and removes what they left.
func (l *lab) close() error {
	var errs []error
	for _, s := range slices.Backward(l.servers) {
		errs = append(errs, s.process.stop())
	}
	if l.stdin != nil {
		errs = append(errs, l.stdin.Close(), l.upstream.stop())
	}
	for _, p := range l.populations {
		errs = append(errs, p.close())
	}
	if l.pg != nil {
		errs = append(errs, l.pg.close())
	}
	for _, end := range slices.Backward(l.after) {
		errs = append(errs, end())
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

// startUpstream runs this program again, as the provider.
func (l *lab) startUpstream() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := l.pins.command(l.pins.load, self, "-role", upstreamRole)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	// Not cmd.StdoutPipe: waiting for the child would close it under the reader.
	stdout, child, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdout.Close()
	cmd.Stdout = child
	l.upstream, err = startProcess("the provider", cmd, l.dir)
	if err := errors.Join(err, child.Close()); err != nil {
		return err
	}
	l.stdin = stdin
	if err := stdout.SetReadDeadline(time.Now().Add(startWithin)); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		return l.upstream.explain(fmt.Errorf("the provider did not start: %w", err))
	}
	if err := json.Unmarshal(line, &l.info); err != nil {
		return fmt.Errorf("the provider said %q: %w", line, err)
	}
	l.roots = filepath.Join(l.dir, "roots.pem")
	return os.WriteFile(l.roots, []byte(l.info.Certificate), 0o600)
}

// startWithin is how long a child may take to be ready.
const startWithin = 30 * time.Second

// server returns a running variant by name and starts it if need be.
func (l *lab) server(ctx context.Context, v variant) (*server, error) {
	for _, s := range l.servers {
		if s.name == v.name {
			return s, nil
		}
	}
	addr, release, err := reserve()
	if err != nil {
		return nil, err
	}
	l.after = append(l.after, release)
	dir, err := os.MkdirTemp(l.dir, "caddy-")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(v.caddyfile(l, addr, dir)), 0o600); err != nil {
		return nil, err
	}
	cmd := l.pins.command(l.pins.proxy, l.opts.caddy, "run", "--config", config, "--adapter", "caddyfile")
	cmd.Dir = dir
	// Nothing of this process's environment may tune or divert one variant.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir,
		"GOMAXPROCS=1", "SSL_CERT_FILE=" + l.roots, "MANAGEMENT_TOKEN=" + managementToken, "PROVIDER_KEY=" + providerKey,
	}
	p, err := startProcess(v.name, cmd, dir)
	if err != nil {
		return nil, err
	}
	s := &server{name: v.name, addr: addr, process: p}
	l.servers = append(l.servers, s)
	if err := s.await(ctx, v.ready); err != nil {
		return nil, p.explain(fmt.Errorf("%s did not become ready: %w", v.name, err))
	}
	if v.governed {
		if s.token, err = enrol(ctx, addr, v.limits); err != nil {
			return nil, p.explain(err)
		}
	}
	return s, nil
}

// await waits until the server listens, or answers 200 at a path.
func (s *server) await(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		err := s.probe(ctx, path)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.done:
			return errors.New("it ended")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) probe(ctx context.Context, path string) error {
	if path == "" {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", s.addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		return err
	}
	resp, err := loopback.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", path, resp.Status)
	}
	return nil
}
