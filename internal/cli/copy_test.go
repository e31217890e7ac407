package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestParseDSN(t *testing.T) {
	here, err := filepath.Abs("x.db")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Database{
		"sqlite:///var/lib/x.db":       {"sqlite", "/var/lib/x.db"},
		"sqlite:///a b/%41?c#d.db":     {"sqlite", "/a b/%41?c#d.db"}, // a path, not a URL's
		"/var/lib/x.db":                {"sqlite", "/var/lib/x.db"},
		"x.db":                         {"sqlite", here},
		"./x.db":                       {"sqlite", here},
		"./host=x.db":                  {"sqlite", filepath.Join(filepath.Dir(here), "host=x.db")},
		"postgres://u:p@host/db":       {"postgres", "postgres://u:p@host/db"},
		"postgresql://host/db?x=y":     {"postgres", "postgresql://host/db?x=y"},
		"host=x dbname=y":              {"postgres", "host=x dbname=y"},
		" dbname = y password='a b c'": {"postgres", " dbname = y password='a b c'"},
	} {
		if got, err := ParseDSN("from", text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", " ", "sqlite://x.db", "sqlite://", "mysql://u:hunter2@host/db", "file:///x.db"} {
		if _, err := ParseDSN("from", text); !IsUsage(err) || !strings.Contains(err.Error(), "--from") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseDSN(f *testing.F) {
	for _, text := range []string{"", "x.db", "sqlite:///x.db", "sqlite://x", "postgres://u:p@h/d", "host=x", "a=b://", "\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDSN("to", text)
		switch {
		case err != nil:
			if !IsUsage(err) {
				t.Errorf("%q: %v", text, err)
			}
		case d.Driver == "sqlite" && !filepath.IsAbs(d.DSN), d.Driver == "postgres" && d.DSN != text, d.Driver != "sqlite" && d.Driver != "postgres":
			t.Errorf("%q is %+v", text, d)
		}
	})
}
