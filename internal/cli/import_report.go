package cli

import (
	"fmt"
	"slices"
	"strconv"
)

// maxSkipped bounds the rows that a report names; all of them are counted.
const maxSkipped = 1000

// importReport is what an import did, or would do.
type importReport struct {
	Database  string          `json:"database"`
	DryRun    bool            `json:"dry_run"`
	Tables    []importedTable `json:"tables"`
	Skipped   []skippedRow    `json:"skipped"`
	Requests  int64           `json:"requests"`       // that the predecessor counted, for all tokens
	Limited   int64           `json:"limited_tokens"` // that were imported with a maximum of requests
	Provider  string          `json:"provider"`       // that the keys are for
	Caddyfile string          `json:"caddyfile,omitempty"`
}

type importedTable struct {
	Table    string `json:"table"`
	Imported int64  `json:"imported"`
	Present  int64  `json:"already_there"`
	Skipped  int64  `json:"skipped"`
}

type skippedRow struct {
	Table  string `json:"table"`
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

func newImportReport(in Import) *importReport {
	r := &importReport{Database: in.To.Database.String(), DryRun: in.DryRun, Provider: in.Provider, Caddyfile: in.Caddyfile, Skipped: []skippedRow{}}
	for _, name := range []string{"projects", "provider_keys", "tokens", "audit_events"} {
		r.table(name)
	}
	return r
}

func (r *importReport) table(name string) *importedTable {
	at := slices.IndexFunc(r.Tables, func(t importedTable) bool { return t.Table == name })
	if at < 0 {
		at = len(r.Tables)
		r.Tables = append(r.Tables, importedTable{Table: name})
	}
	return &r.Tables[at]
}

func (r *importReport) count(table string, added bool) {
	if t := r.table(table); added {
		t.Imported++
	} else {
		t.Present++
	}
}

func (r *importReport) skip(table, id string, why error) {
	r.table(table).Skipped++
	if len(r.Skipped) < maxSkipped {
		r.Skipped = append(r.Skipped, skippedRow{table, id, why.Error()})
	}
}

// add takes over what a transaction reports.
func (r *importReport) add(other *importReport) {
	for _, t := range other.Tables {
		into := r.table(t.Table)
		into.Imported += t.Imported
		into.Present += t.Present
		into.Skipped += t.Skipped
	}
	r.Skipped = append(r.Skipped, other.Skipped[:min(len(other.Skipped), maxSkipped-len(r.Skipped))]...)
	r.Limited += other.Limited
}

// show prints the report. Skipped rows are an error.
func (r *importReport) show(out Output) error {
	var imported, skipped int64
	for _, t := range r.Tables {
		imported += t.Imported
		skipped += t.Skipped
	}
	for _, row := range r.Skipped {
		out.Notice("skipped: %s %s: %s", row.Table, row.ID, row.Reason)
	}
	if more := skipped - int64(len(r.Skipped)); more > 0 {
		out.Notice("skipped: %d more", more)
	}
	if err := r.print(out); err != nil {
		return err
	}
	switch {
	case imported == 0:
		out.Notice("nothing was new: the database is as it was")
	case r.DryRun:
		out.Notice("nothing was written: this was a dry run")
	}
	if r.Limited > 0 {
		out.Notice("%s a maximum of requests: what was left of it is the limit max_requests", plural(int(r.Limited), "token has", "tokens have"))
	}
	if skipped > 0 {
		return fmt.Errorf("%s skipped, for the reasons above; all others are done", plural(int(skipped), "row was", "rows were"))
	}
	return nil
}

func (r *importReport) print(out Output) error {
	if out.JSON {
		return out.value(r)
	}
	title := "IMPORTED"
	if r.DryRun {
		title = "WOULD BE IMPORTED"
	}
	var rows [][]string
	for _, t := range r.Tables {
		rows = append(rows, []string{t.Table, strconv.FormatInt(t.Imported, 10), strconv.FormatInt(t.Present, 10), strconv.FormatInt(t.Skipped, 10)})
	}
	if r.Caddyfile == "" {
		return out.table([]string{"TABLE", title, "THERE ALREADY", "SKIPPED"}, rows)
	}
	// Standard output is for the Caddyfile, so that it can be kept in a file.
	if err := (Output{Out: out.Err}).table([]string{"TABLE", title, "THERE ALREADY", "SKIPPED"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprint(out.Out, r.Caddyfile)
	return err
}
