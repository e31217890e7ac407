package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPieces: every benchmark that is quoted is there. They are run by hand.
func TestPieces(t *testing.T) {
	for _, p := range pieces {
		files, err := filepath.Glob(filepath.Join("..", "internal", p.pkg, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", p.pkg, files, err)
		}
		want, _, _ := strings.Cut(p.bench, "/")
		if !slices.ContainsFunc(files, func(name string) bool {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(file.Decls, func(d ast.Decl) bool {
				f, ok := d.(*ast.FuncDecl)
				return ok && f.Name.Name == want
			})
		}) {
			t.Errorf("%s has no %s", p.pkg, want)
		}
	}
	if got, want := (piece{bench: "BenchmarkPurge/project"}).pattern(), "^BenchmarkPurge$/^project$"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestBenchmarkResults(t *testing.T) {
	const out = `goos: linux
pkg: example.org/x
BenchmarkHold-2            	     100	      1843 ns/op	      78 B/op	       0 allocs/op
BenchmarkHold-2            	     100	      1900.5 ns/op	      79 B/op	       0 allocs/op
BenchmarkHoldShared-2      	     100	      9 ns/op	      9 B/op	       9 allocs/op
BenchmarkPurge/project     	       1	   5403744 ns/op	    100000 deleted	      7767 lookups
PASS
`
	hold := benchmarkResults(out, "BenchmarkHold")
	if !slices.Equal(hold["ns/op"], []float64{1843, 1900.5}) || !slices.Equal(hold["allocs/op"], []float64{0, 0}) || len(hold) != 3 {
		t.Errorf("got %v", hold)
	}
	if purge := benchmarkResults(out, "BenchmarkPurge/project"); !slices.Equal(purge["deleted"], []float64{100000}) {
		t.Errorf("got %v", purge)
	}
	if none := benchmarkResults(out, "BenchmarkPurge"); len(none) != 0 {
		t.Errorf("got %v", none)
	}
	for v, want := range map[float64]string{0: "0", 41: "41", 5403744: "5,403,744", 477.7: "478", 18.43: "18.4", 1.254: "1.25"} {
		if got := quantity(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestRedisCount(t *testing.T) {
	got := parseRedisCount("# Stats\r\ntotal_reads_processed:17\r\ntotal_writes_processed:9\r\n\n# Commandstats\r\n" +
		"cmdstat_evalsha:calls=3,usec=120,usec_per_call=40.00,rejected_calls=0,failed_calls=0\r\n" +
		"cmdstat_eval:calls=1,usec=80,usec_per_call=80.00,rejected_calls=0,failed_calls=0\r\n" +
		"cmdstat_hget:calls=8,usec=10,usec_per_call=1.25,rejected_calls=0,failed_calls=0\r\n")
	if want := (redisCount{scripts: 4, commands: 12, reads: 17, busy: 200}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
