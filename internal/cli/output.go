package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Output is where a command writes.
type Output struct {
	Out  io.Writer // data
	Err  io.Writer // notices
	JSON bool      // data is one JSON document
}

// Notice tells something that is not data.
func (o Output) Notice(format string, args ...any) {
	fmt.Fprintln(o.Err, OneLine(fmt.Sprintf(format, args...)))
}

// document writes raw JSON as it came; a call without an answer gives {}.
func (o Output) document(raw []byte) error {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 {
		raw = []byte("{}")
	}
	_, err := fmt.Fprintf(o.Out, "%s\n", raw)
	return err
}

// value writes v as JSON.
func (o Output) value(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the result: %w", err)
	}
	return o.document(raw)
}

// table writes rows in columns below their titles.
func (o Output) table(titles []string, rows [][]string) error {
	w := tabwriter.NewWriter(o.Out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{titles}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = OneLine(cell); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// details writes pairs of name and value, one a line, without those that are empty.
func (o Output) details(pairs ...string) error {
	w := tabwriter.NewWriter(o.Out, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := OneLine(pairs[i+1]); value != "" {
			fmt.Fprintf(w, "%s\t%s\n", pairs[i], value)
		}
	}
	return w.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// timeText is a time as people read it; absent is for nil.
func timeText(t *time.Time, absent string) string {
	if t == nil {
		return absent
	}
	return t.UTC().Format(time.RFC3339)
}
