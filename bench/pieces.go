package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// piece is a benchmark of a package of ours.
type piece struct {
	name  string // in the report
	pkg   string // in internal
	bench string // its name, and that of its part
	large bool   // takes seconds and a GB: is run once a round, in three at most
	shown []metric
}

// metric is a unit that a benchmark reports.
type metric struct {
	unit string // as it writes it
	name string // in the report
	by   float64
}

var (
	nanoseconds = metric{"ns/op", "ns", 1}
	allocations = []metric{nanoseconds, {"B/op", "bytes allocated", 1}, {"allocs/op", "allocations", 1}}
)

var pieces = []piece{
	{"a request, short of the network and of events", "gateway", "BenchmarkGoverned/no_limits", false, allocations},
	{"the same, six limits of rates in memory", "gateway", "BenchmarkGoverned/rates", false, allocations},
	{"the same, two budgets and two quotas", "gateway", "BenchmarkGoverned/budget_and_quota", false, allocations},
	{"the same, from the cache", "gateway", "BenchmarkGoverned/cache_hit", false, allocations},
	{"rates: take and release four limits, in memory", "limit", "BenchmarkMemorySingle", false, allocations},
	{"budgets: hold and settle in two accounts, warm leases", "ledger", "BenchmarkHold", false, allocations},
	{"cache: look up among 10,000", "respcache", "BenchmarkLookup/variant's_key_computed", false, allocations},
	{"cache: purge a project's 100,000 of 1,000,000, with look-ups on the other core", "respcache", "BenchmarkPurge/project", true,
		[]metric{{"ns/op", "ms", 1e-6}, {"deleted", "deleted", 1}}},
	{"cache: 100,000 bodies of 4 KiB", "respcache", "BenchmarkFootprint", true,
		[]metric{{"heap/bodies", "memory ÷ bodies", 1}, {"heap/content", "memory ÷ bodies, header and keys", 1}, {"heap/counted", "memory ÷ what the cache counts", 1}}},
}

const (
	pieceRounds      = 7
	largePieceRounds = 3
	module           = "github.com/sofatutor/caddy-llm-proxy/"
)

func (o options) planPieces() time.Duration { return 45 * time.Second }

// takePieces: what the parts of a request cost by themselves, told by the
// benchmarks of their packages.
func takePieces(ctx context.Context, l *lab) (section, error) {
	t := table{columns: []string{"Piece", "of one: min", "median", "max", "unit"}}
	var asked []string
	for _, p := range pieces {
		if p.large && l.opts.quick {
			continue
		}
		results, err := l.runPiece(ctx, p)
		if err != nil {
			return section{}, fmt.Errorf("%s in %s: %w", p.bench, p.pkg, err)
		}
		for _, m := range p.shown {
			values := results[m.unit]
			if len(values) == 0 {
				return section{}, fmt.Errorf("%s in %s did not report %s", p.bench, p.pkg, m.unit)
			}
			for i := range values {
				values[i] *= m.by
			}
			s := spreadOf(values)
			t.add(p.name, quantity(s.min), bold(quantity(s.median)), quantity(s.max), m.name)
		}
		once := ""
		if p.large {
			once = " -benchtime 1x"
		}
		asked = append(asked, fmt.Sprintf("`go test -run '^$' -benchmem -bench \"%s\"%s ./internal/%s`", p.pattern(), once, p.pkg))
	}
	return section{
		title:  "(m) Pieces",
		text:   "In process, nothing else going on; the packages' own benchmarks, each run several times. One alone, from the repository:\n\n" + strings.Join(asked, "\\\n"),
		tables: []table{t},
	}, nil
}

// pattern selects the benchmark, and no other.
func (p piece) pattern() string {
	parts := strings.Split(p.bench, "/")
	for i := range parts {
		parts[i] = "^" + parts[i] + "$"
	}
	return strings.Join(parts, "/")
}

// runPiece returns all values of each unit.
func (l *lab) runPiece(ctx context.Context, p piece) (map[string][]float64, error) {
	binary := filepath.Join(l.dir, p.pkg+".test")
	if _, err := os.Stat(binary); err != nil { // not made yet
		build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, path.Join(module, "internal", p.pkg))
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building it, which needs the go command and the repository: %w: %s", err, out)
		}
	}
	count, length := min(l.opts.rounds, pieceRounds), "300ms"
	switch {
	case p.large:
		count, length = min(l.opts.rounds, largePieceRounds), "1x"
	case l.opts.quick:
		length = "100x"
	}
	cmd := l.pins.unpinned(ctx, binary, "-test.run", "^$", "-test.bench", p.pattern(), "-test.benchmem",
		"-test.count", strconv.Itoa(count), "-test.benchtime", length, "-test.timeout", "5m")
	cmd.Dir = l.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	results := benchmarkResults(string(out), p.bench)
	if len(results) == 0 {
		return nil, errors.New("there is no such benchmark")
	}
	return results, nil
}

// benchmarkResults reads the lines of one benchmark from what `go test -bench`
// writes: its name, how often it ran, and values with their units.
func benchmarkResults(out, bench string) map[string][]float64 {
	results := make(map[string][]float64)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] != bench && !isWithProcs(fields[0], bench) {
			continue
		}
		for pair := range slices.Chunk(fields[2:], 2) {
			if v, err := strconv.ParseFloat(pair[0], 64); err == nil && len(pair) == 2 {
				results[pair[1]] = append(results[pair[1]], v)
			}
		}
	}
	return results
}

// isWithProcs: the name is that of the benchmark and "-2", the number of
// processors.
func isWithProcs(name, bench string) bool {
	procs, ok := strings.CutPrefix(name, bench+"-")
	_, err := strconv.Atoi(procs)
	return ok && err == nil
}

// quantity has as many digits as tell something.
func quantity(v float64) string {
	switch {
	case v == float64(int64(v)), v >= 100:
		return thousands(v)
	case v >= 10:
		return decimal(v)
	default:
		return twoDigits(v)
	}
}
