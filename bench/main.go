// Command bench measures this proxy against plain Caddy on the same machine:
// how many requests one core serves through each, and how much time each adds.
// It starts everything it needs on loopback and ends it again. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	out     string
	caddy   string
	rounds  int
	seconds float64
	conns   int
	run     string
	tokens  int
	quick   bool
	role    string
}

// quickTokens is what -quick makes of -tokens.
const quickTokens = 4000

func parseOptions(args []string) (options, error) {
	var o options
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.StringVar(&o.out, "out", "", "write the report to this Markdown `file` too")
	set.StringVar(&o.caddy, "caddy", "bin/caddy", "the `binary` to measure, made by make build")
	set.IntVar(&o.rounds, "rounds", 7, "how often each variant is measured")
	set.Float64Var(&o.seconds, "seconds", 2, "length of one window; those of refused and stream take half, those at one connection a quarter")
	set.IntVar(&o.conns, "conns", 32, "connections of the load generator in throughput windows")
	set.StringVar(&o.run, "run", "", "comma-separated measurements (default all): "+strings.Join(measurementNames(), ", "))
	set.BoolVar(&o.quick, "quick", false, "1 round of 100 ms: shows that everything works, measures nothing")
	set.IntVar(&o.tokens, "tokens", 10_000_000, "how many tokens the large databases of lookup and pages hold; needs 1.6 KB of disk each, in $TMPDIR")
	set.StringVar(&o.role, "role", "", "internal: what this process is")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	if o.quick {
		o.rounds, o.seconds, o.tokens = 1, 0.1, min(o.tokens, quickTokens)
	}
	if o.rounds < 1 || o.seconds < 0.1 || o.seconds > 600 || o.conns < 1 || o.conns > 1024 {
		return o, errors.New("expected -rounds of at least 1, -seconds from 0.1 to 600, -conns from 1 to 1024")
	}
	if least := 2 * smallPopulation * (o.rounds + 1); o.tokens < least {
		return o, fmt.Errorf("expected -tokens of at least %d with %d rounds", least, o.rounds)
	}
	for _, name := range o.names() {
		if !slices.Contains(measurementNames(), name) {
			return o, fmt.Errorf("-run: there is no measurement %q; expected some of: %s", name, strings.Join(measurementNames(), ", "))
		}
	}
	return o, nil
}

// names are the measurements asked for.
func (o options) names() []string {
	if o.run == "" {
		return measurementNames()
	}
	names := strings.Split(o.run, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

func main() {
	o, err := parseOptions(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case o.role == upstreamRole:
		err = serveUpstream(os.Stdin, os.Stdout)
	case o.role != "":
		err = fmt.Errorf("there is no role %q", o.role)
	default:
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run takes all measurements asked for and writes the report.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	if info, err := os.Stat(o.caddy); err != nil || info.IsDir() {
		return fmt.Errorf("%s is not a binary: run `make build` first, or name another one with -caddy", o.caddy)
	}
	var planned time.Duration
	for _, m := range measurements {
		if slices.Contains(o.names(), m.name) {
			planned += m.planned(o)
		}
	}
	// Twice the plan and a minute for starting: nothing here may take longer.
	ctx, cancel := context.WithTimeout(ctx, 2*planned+time.Minute)
	defer cancel()

	l, err := openLab(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	fmt.Fprintf(out, "%s\nMeasuring for about %s.\n\n", l.pins.note, planned.Round(time.Second))

	report := report{begun: time.Now(), pins: l.pins.note, machine: describeMachine(ctx, o.caddy)}
	for _, m := range measurements {
		if !slices.Contains(o.names(), m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s …\n", m.name)
		section, err := m.take(ctx, l)
		if err != nil {
			if ctx.Err() != nil {
				err = errors.Join(context.Cause(ctx), err)
			}
			return fmt.Errorf("%s: %w", m.name, err)
		}
		report.sections = append(report.sections, section)
	}
	fmt.Fprint(out, report.markdown(o, ""))
	if o.out == "" {
		return nil
	}
	earlier, err := os.ReadFile(o.out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(o.out, []byte(report.markdown(o, string(earlier))), 0o644)
}
