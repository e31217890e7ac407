package caddymodule

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func simulateCommand() *cobra.Command {
	cmd := leaf("simulate", "Serves a simulated provider, until interrupted", 0, 0, func(i *invocation) error {
		f := i.cmd.Flags()
		opt := cli.SimulateOptions{Listen: i.text("listen")}
		var err error
		if opt.Pace, err = f.GetDuration("pace"); err != nil {
			return err
		}
		if opt.FirstByte, err = f.GetDuration("first-byte"); err != nil {
			return err
		}
		keys, err := f.GetStringArray("key")
		if err != nil {
			return err
		}
		for _, spec := range keys {
			key, err := cli.ReadSecret("--key", spec, i.cmd.InOrStdin())
			if err != nil {
				return err
			}
			opt.Keys = append(opt.Keys, key.Reveal())
		}
		ctx, stop := signal.NotifyContext(i.cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return cli.Simulate(ctx, i.out, opt)
	})
	f := cmd.Flags()
	f.String("listen", "127.0.0.1:9191", "address to serve")
	f.Duration("pace", 20*time.Millisecond, "time between the chunks of a stream")
	f.Duration("first-byte", 0, "time until an answer begins")
	f.StringArray("key", nil, "an accepted API key, @FILE, or - for standard input; can be repeated (default: any)")
	return cmd
}
