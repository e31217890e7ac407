package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// report is what a run found.
type report struct {
	begun    time.Time
	pins     string
	machine  machine
	sections []section
}

// section is the answer to one measurement.
type section struct {
	title  string
	text   string
	tables []table
	notes  []string
}

// table is rows of text; the first column is left-aligned.
type table struct {
	columns []string
	rows    [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

const reportHead = "# Benchmarks\n\n" +
	"One core for the proxy, plain HTTP/1.1 towards clients, no access logs; see [README.md](README.md).\n" +
	"Ratios are taken inside each round, between windows that follow one another; median, smallest and largest of the rounds are shown.\n" +
	"Each section tells how it was made: a run replaces its own sections only.\n"

// markdown is the whole report, with the sections of an earlier one that were
// not measured again.
func (r report) markdown(o options, earlier string) string {
	texts := make(map[string]string)
	for _, text := range splitSections(earlier) {
		texts[sectionKey(text)] = text
	}
	for _, s := range r.sections {
		text := r.section(o, s)
		texts[sectionKey(text)] = text
	}
	return reportHead + strings.Join(slices.Sorted(maps.Values(texts)), "")
}

// splitSections takes a report apart. Every section begins with an empty line
// and its title.
func splitSections(text string) []string {
	parts := strings.Split("\n"+text, "\n\n## ")
	var sections []string
	for _, part := range parts[1:] {
		sections = append(sections, "\n## "+strings.TrimSuffix(part, "\n")+"\n")
	}
	return sections
}

// sectionKey is what a section is known by: the letter before its title, "(a)".
func sectionKey(text string) string {
	key, _, _ := strings.Cut(strings.TrimPrefix(text, "\n## "), " ")
	return key
}

func (r report) section(o options, s section) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s\n", s.title, s.text)
	for _, t := range s.tables {
		b.WriteString("\n" + t.markdown())
	}
	for _, note := range s.notes {
		b.WriteString("\n" + note + "\n")
	}
	b.WriteString("\n")
	if o.quick {
		b.WriteString("- **Made with -quick: windows this short measure nothing.**\n")
	}
	fmt.Fprintf(&b, "- Command: `%s`, %s\n", strings.Join(append([]string{"go run ./bench"}, os.Args[1:]...), " "), r.begun.UTC().Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(&b, "- Binary: %s; Caddy %s, %s; sources at %s\n", r.machine.binary, r.machine.caddy, r.machine.golang, r.machine.revision)
	fmt.Fprintf(&b, "- Machine: %s. %s\n", r.machine, r.pins)
	fmt.Fprintf(&b, "- Rounds: %d; every answer was checked\n", o.rounds)
	return b.String()
}

// markdown aligns the columns, so that the text can be read as it is.
func (t table) markdown() string {
	widths := make([]int, len(t.columns))
	for _, row := range append([][]string{t.columns}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	var b strings.Builder
	line := func(cells []string) {
		for i, cell := range cells {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + space + " |")
			} else {
				b.WriteString(" " + space + cell + " |")
			}
		}
		b.WriteString("\n")
	}
	line(t.columns)
	for i, width := range widths {
		if i == 0 {
			b.WriteString("| " + strings.Repeat("-", width) + " |")
		} else {
			b.WriteString(" " + strings.Repeat("-", width-1) + ": |")
		}
	}
	b.WriteString("\n")
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}

// measured shows a dash for what the system could not tell.
func measured(v float64, format func(float64) string) string {
	if v == 0 || math.IsNaN(v) {
		return "–"
	}
	return format(v)
}

func decimal(v float64) string   { return fmt.Sprintf("%.1f", v) }
func signed(v float64) string    { return fmt.Sprintf("%+.1f", v) }
func twoDigits(v float64) string { return fmt.Sprintf("%.2f", v) }
func percent(v float64) string   { return fmt.Sprintf("%.0f %%", v*100) }
func bold(s string) string       { return "**" + s + "**" }

// thousands writes thousands apart.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
