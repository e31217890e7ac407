package storage

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// sqliteOnly are constructs that PostgreSQL does not have.
var sqliteOnly = regexp.MustCompile(`(?i)\bpragma\b|\binsert or\b|\breplace into\b|\bdatetime\(|\bjulianday\(|\bunixepoch\(|\browid\b|\bstrftime\b|\bsqlite_\w+|\bautoincrement\b|\bifnull\(|\binstr\(|\bglob ['$]|\bcollate nocase\b|\bpragma_|"modernc\.org/`)

// postgresOnly are constructs that SQLite does not have.
var postgresOnly = regexp.MustCompile(`(?i)::[a-z]+\b|\bpg_\w+|\bfor update\b|\bilike\b|\bbytea\b|\bjsonb\b|\bunnest\(|= any\(|\bclock_timestamp\b|\bcurrent_setting\b|"github\.com/jackc/`)

// TestOneDialect keeps each database out of every file but its own.
func TestOneDialect(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	suite, err := filepath.Glob("storetest/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, suite...) {
		source := readFile(t, name)
		if lines := strings.Count(string(source), "\n"); lines > 400 {
			t.Errorf("%s has %d lines", name, lines)
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			if strings.HasPrefix(path, "modernc.org/") && name != "sqlite.go" || strings.HasPrefix(path, "github.com/jackc/") && !strings.HasPrefix(name, "postgres") {
				t.Errorf("%s imports %s", name, path)
			}
		}
		for i, line := range strings.Split(string(source), "\n") {
			if found := sqliteOnly.FindString(line); found != "" && name != "sqlite.go" && name != "libc.go" {
				t.Errorf("%s:%d: %q is SQLite only", name, i+1, found)
			}
			if found := postgresOnly.FindString(line); found != "" && !strings.HasPrefix(name, "postgres") {
				t.Errorf("%s:%d: %q is PostgreSQL only", name, i+1, found)
			}
		}
	}
}

// TestLibcVersion compares the wanted version with what the driver asks for, and
// with what the module is built with.
func TestLibcVersion(t *testing.T) {
	var driver struct{ GoMod string }
	goList(t, &driver, "modernc.org/sqlite")
	wanted := regexp.MustCompile(`(?m)\bmodernc\.org/libc (v\S+)`).FindStringSubmatch(string(readFile(t, driver.GoMod)))
	if wanted == nil || wanted[1] != libcWant {
		t.Errorf("libcWant is %s, the driver wants %v", libcWant, wanted)
	}
	var libc struct{ Version string }
	goList(t, &libc, libcPath)
	if libc.Version != libcWant {
		t.Errorf("go.mod selects libc %s, wanted %s", libc.Version, libcWant)
	}
}

func goList(t *testing.T, to any, module string) {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), "go", "list", "-m", "-json", module)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, to); err != nil {
		t.Fatal(err)
	}
}

func TestLinkedLibc(t *testing.T) {
	module := func(version string, replace *debug.Module) *debug.BuildInfo {
		return &debug.BuildInfo{Deps: []*debug.Module{{Path: "x"}, {Path: libcPath, Version: version, Replace: replace}}}
	}
	for want, info := range map[string]*debug.BuildInfo{
		"":   {},
		"v1": module("v1", nil),
		"v2": module("v1", &debug.Module{Path: "fork", Version: "v2"}),
	} {
		if got := linkedLibc(info); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNothingPrinted(t *testing.T) { onBoth(t, testNothingPrinted) }

func testNothingPrinted(t *testing.T, dsn string) {
	db := openDB(t, dsn)
	for _, text := range []string{fmt.Sprint(db), fmt.Sprintf("%v %+v %#v %s", db, db, db, db)} {
		if strings.Trim(text, " ") == "" || strings.ReplaceAll(strings.ReplaceAll(text, "storage.DB("+driverOf(dsn)+")", ""), " ", "") != "" {
			t.Errorf("prints as %.200s", text)
		}
	}
}
