package caddymodule

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func chatCommand() *cobra.Command {
	cmd := leaf("chat [PROMPT]", "Asks a model through the proxy; without a prompt in a conversation", 0, 1, runChat)
	f := cmd.Flags()
	f.String("model", "gpt-4o-mini", "the model to ask")
	f.String("token", "", "client token, or @FILE (env LLM_PROXY_TOKEN)")
	f.String("system", "", "system prompt")
	f.Float64("temperature", 0, "how varied answers are (default the model's)")
	f.Int("max-tokens", 0, "how long answers may be (default the model's)")
	f.Bool("no-stream", false, "wait for the whole answer")
	return cmd
}

func runChat(i *invocation) error {
	address, err := i.address()
	if err != nil {
		return err
	}
	token, err := i.secret("token", "LLM_PROXY_TOKEN")
	if err != nil {
		return err
	}
	if token.IsZero() {
		return cli.Usagef("no client token: set LLM_PROXY_TOKEN or give --token @FILE; caddy llm-proxy token create makes one")
	}
	opt := cli.ChatOptions{
		Model: i.text("model"), System: i.text("system"), NoStream: i.on("no-stream"), Terminal: isTerminal(os.Stdout),
	}
	if opt.MaxTokens, err = i.cmd.Flags().GetInt("max-tokens"); err != nil {
		return err
	}
	if i.given("temperature") {
		temperature, err := i.cmd.Flags().GetFloat64("temperature")
		if err != nil {
			return err
		}
		opt.Temperature = &temperature
	}
	chat, err := cli.NewChat(address, token, i.trust(), i.out, opt)
	if err != nil {
		return err
	}
	if chat.InClear() {
		i.out.Notice("warning: the token is sent unencrypted; use https")
	}
	prompt := i.arg(0)
	if prompt == "" && isTerminal(os.Stdin) {
		if i.out.JSON {
			return cli.Usagef("--json needs a prompt")
		}
		interrupts := make(chan os.Signal, 2)
		signal.Notify(interrupts, os.Interrupt)
		defer signal.Stop(interrupts)
		return chat.Converse(i.cmd.Context(), i.cmd.InOrStdin(), interrupts)
	}
	if prompt == "" {
		if prompt, err = cli.ReadPrompt(i.cmd.InOrStdin()); err != nil {
			return err
		}
	}
	if prompt == "" {
		return cli.Usagef("nothing to ask: give a prompt as argument or on standard input")
	}
	return chat.Ask(i.cmd.Context(), prompt)
}

// isTerminal reports whether a person is at the other end. The null device is a
// character device too.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, null)
}
