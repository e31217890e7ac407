// Package printer is a sink that writes a line for each request.
package printer

import (
	"context"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/sofatutor/caddy-llm-proxy/caddymodule/guest"
)

func init() { caddy.RegisterModule(new(Printer)) }

// Printer appends to a file.
type Printer struct {
	Path string `json:"path,omitempty"`
}

// CaddyModule implements caddy.Module. The last part of the ID is the sink's type.
func (*Printer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "llm_proxy.sinks.printer", New: func() caddy.Module { return new(Printer) }}
}

// Provision implements caddy.Provisioner. It must have no effect outside the process.
func (p *Printer) Provision(caddy.Context) (err error) {
	p.Path, err = caddy.NewReplacer().ReplaceOrErr(p.Path, true, true)
	return err
}

// Deliver implements guest.Sink.
func (p *Printer) Deliver(ctx context.Context, events []guest.Event) error {
	f, err := os.OpenFile(p.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err // tried again later
	}
	defer f.Close()
	for i := range events {
		e := &events[i]
		if e.Alert != nil {
			continue // not a request
		}
		if _, err := fmt.Fprintln(f, e.ID, e.Time, e.Method, e.Endpoint, e.Model, e.Status, e.Outcome); err != nil {
			return err
		}
	}
	return f.Sync()
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler: sink <name> { type printer ; path <path> }.
func (p *Printer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	for d.NextBlock(0) {
		if d.Val() != "path" || !d.Args(&p.Path) {
			return d.Errf("expected path <path>, got %q", d.Val())
		}
	}
	return nil
}
