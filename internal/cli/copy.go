package cli

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const sqliteScheme = "sqlite://"

// keywordDSN begins what libpq calls keyword/value pairs.
var keywordDSN = regexp.MustCompile(`^\s*[a-z_]+\s*=`)

// ParseDSN tells databases apart: postgres://… and key=value pairs are PostgreSQL's,
// sqlite:///absolute/path and everything else are the path of a SQLite file. A path
// that looks like pairs begins with ./ to be one.
func ParseDSN(flag, text string) (Database, error) {
	switch path, isURL := strings.CutPrefix(text, sqliteScheme); {
	case strings.TrimSpace(text) == "":
		return Database{}, Usagef("--%s is required: sqlite:///path/to/file.db, a path, or postgres://user@host/database", flag)
	case isURL && !filepath.IsAbs(path):
		return Database{}, Usagef("--%s: expected sqlite:// and an absolute path, such as sqlite:///var/lib/llm-proxy/llm-proxy.db", flag)
	case isURL:
		return Database{Driver: "sqlite", DSN: path}, nil
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"), keywordDSN.MatchString(text):
		return Database{Driver: "postgres", DSN: text}, nil
	case strings.Contains(text, "://"):
		return Database{}, Usagef("--%s: expected sqlite:///path/to/file.db, a path, or postgres://user@host/database", flag)
	}
	path, err := filepath.Abs(text)
	if err != nil {
		return Database{}, err
	}
	return Database{Driver: "sqlite", DSN: path}, nil
}

// CopyDatabase makes a database hold what another one holds. replace has it give up
// what it holds else.
func CopyDatabase(ctx context.Context, out Output, from, to Database, replace bool) error {
	report, err := storage.Copy(ctx, from.config(), to.config(), storage.CopyOptions{Replace: replace, Progress: out.copyProgress()})
	if errors.Is(err, storage.ErrHoldsData) {
		return Usagef("%v, and is not an untouched copy of this source: give another target, or --replace to lose what it holds", err)
	}
	if report == nil {
		return err
	}
	if shown := out.copied(copyView{From: from.String(), To: to.String()}, report); shown != nil {
		return shown
	}
	if err == nil {
		out.Notice("secrets were copied as they are sealed: give the target's proxy the same encryption_key")
	}
	return err
}

func (d Database) config() storage.Config { return storage.Config{Driver: d.Driver, DSN: d.DSN} }

// copyProgress tells once a second how far a copy is.
func (o Output) copyProgress() func(storage.CopyProgress) {
	told := time.Now()
	return func(p storage.CopyProgress) {
		if now := time.Now(); now.Sub(told) >= progressEvery {
			told = now
			o.Notice("%s: %d of %d rows looked at, %d written", p.Table, p.Seen, p.Rows, p.Written)
		}
	}
}

type copyView struct {
	From    string            `json:"from"`
	To      string            `json:"to"`
	Rows    int64             `json:"rows"`
	Written int64             `json:"written"`
	Deleted int64             `json:"deleted"`
	Tables  []copiedTableView `json:"tables"`
}

type copiedTableView struct {
	Table    string `json:"table"`
	Rows     int64  `json:"rows"`
	Written  int64  `json:"written"`
	Deleted  int64  `json:"deleted"`
	Checksum string `json:"checksum"`
	Same     bool   `json:"same"`
}

// copied shows what became of each table.
func (o Output) copied(view copyView, report *storage.CopyReport) error {
	var rows [][]string
	for _, t := range report.Tables {
		view.Rows, view.Written, view.Deleted = view.Rows+t.Rows, view.Written+t.Written, view.Deleted+t.Deleted
		view.Tables = append(view.Tables, copiedTableView{t.Table, t.Rows, t.Written, t.Deleted, t.Checksum, t.Same})
		rows = append(rows, []string{t.Table, strconv.FormatInt(t.Rows, 10), strconv.FormatInt(t.Written, 10), strconv.FormatInt(t.Deleted, 10),
			t.Checksum[:min(16, len(t.Checksum))], map[bool]string{true: "same", false: "DIFFERS"}[t.Same]})
	}
	if o.JSON {
		return o.value(view)
	}
	return o.table([]string{"TABLE", "ROWS", "WRITTEN", "DELETED", "CHECKSUM", "COMPARED"}, rows)
}
