package adminapi

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// wantsCSV reports whether CSV is asked for by name, and JSON is not preferred to it.
func wantsCSV(accept []string) bool {
	var csvAt, jsonAt float64
	for item := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		mediaType, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		quality := 1.0
		if text, given := params["q"]; given {
			if quality, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		switch mediaType {
		case "text/csv":
			csvAt = max(csvAt, quality)
		case "application/json":
			jsonAt = max(jsonAt, quality)
		}
	}
	return csvAt > 0 && csvAt >= jsonAt
}

var usageColumns = []string{
	"requests", "errors", "cache_hits", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
	"cost_usd", "unpriced", "estimated",
}

// csv writes the rows as RFC 4180 has it, below a line with the names of their members.
func (v *usageView) csv() (answer, error) {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	w.UseCRLF = true
	var header []string
	for _, group := range v.GroupBy {
		header = append(header, groupColumns(group)...)
	}
	if err := w.Write(append(header, usageColumns...)); err != nil {
		return answer{}, fmt.Errorf("writing CSV: %w", err)
	}
	for i := range v.Rows {
		if err := w.Write(v.Rows[i].cells(v.GroupBy)); err != nil {
			return answer{}, fmt.Errorf("writing CSV: %w", err)
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return answer{}, fmt.Errorf("writing CSV: %w", err)
	}
	h := http.Header{
		"Content-Type":        {"text/csv; charset=utf-8; header=present"},
		"Content-Disposition": {`attachment; filename="usage.csv"`},
		"Vary":                {"Accept"},
	}
	return answer{status: http.StatusOK, header: h, body: jsontext.Value(text.Bytes())}, nil
}

func groupColumns(group string) []string {
	switch group {
	case storage.GroupProject:
		return []string{"project_id", "project_name"}
	case storage.GroupToken:
		return []string{"token_id"}
	}
	return []string{group}
}

func (r *usageRow) cells(groups []string) []string {
	var cells []string
	for _, group := range groups {
		switch group {
		case storage.GroupProject:
			cells = append(cells, *r.ProjectID, harmless(*r.ProjectName))
		case storage.GroupToken:
			cells = append(cells, *r.TokenID)
		case storage.GroupProvider:
			cells = append(cells, harmless(*r.Provider))
		case storage.GroupModel:
			cells = append(cells, harmless(*r.Model))
		case storage.GroupEndUser:
			cells = append(cells, harmless(*r.EndUser))
		case storage.GroupHour:
			cells = append(cells, r.Hour.Format(time.RFC3339))
		case storage.GroupDay:
			cells = append(cells, *r.Day)
		}
	}
	for _, n := range []int64{r.Requests, r.Errors, r.CacheHits, r.InputTokens, r.CachedTokens, r.CacheWriteTokens, r.OutputTokens, r.ReasoningTokens} {
		cells = append(cells, strconv.FormatInt(n, 10))
	}
	return append(cells, r.CostUSD, strconv.FormatInt(r.Unpriced, 10), strconv.FormatInt(r.Estimated, 10))
}

// harmless makes a text safe to be looked at: models and end users are whatever
// clients send. What a spreadsheet would take for a formula gets an apostrophe in
// front, by which spreadsheets know text, as does what begins with an apostrophe:
// whoever removes one has what it was. Control characters, with which a text could
// steer a terminal or look like another row, become spaces.
func harmless(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	// Spreadsheets pass over spaces at the beginning.
	if first, _ := utf8.DecodeRuneInString(strings.TrimLeft(text, " ")); strings.ContainsRune("=+-@'＝＋－＠", first) {
		return "'" + text
	}
	return text
}
