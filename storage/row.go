package storage

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// micros scans a column of microseconds into a time.
type micros struct{ to *time.Time }

// Scan implements [sql.Scanner].
func (m micros) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", src)
	}
	*m.to = time.UnixMicro(n).UTC()
	return nil
}

// nullMicros scans a column of microseconds or NULL.
type nullMicros struct{ to **time.Time }

// Scan implements [sql.Scanner].
func (m nullMicros) Scan(src any) error {
	*m.to = nil
	if src == nil {
		return nil
	}
	var t time.Time
	if err := (micros{&t}).Scan(src); err != nil {
		return err
	}
	*m.to = &t
	return nil
}

// microsOrNull is a parameter for a nullable time.
func microsOrNull(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMicro()
}

// stored is a time as a database gives it back.
func stored(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

func storedOrNil(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	s := stored(*t)
	return &s
}

// idOrNull is a parameter for a nullable id.
func idOrNull(id uuid.UUID) any {
	if id.IsNil() {
		return nil
	}
	return id
}

// newID makes an id that sorts by time.
func newID(now time.Time) (uuid.UUID, error) {
	id, err := uuid.NewV7AtTime(now)
	if err != nil {
		return uuid.Nil, fmt.Errorf("making an id: %w", err)
	}
	return id, nil
}

func encodePolicy(p *project.Policy) (string, error) {
	text, err := json.Marshal(p, json.Deterministic(true))
	if err != nil {
		return "", fmt.Errorf("encoding the policy: %w", err)
	}
	return string(text), nil
}

// decodePolicy is strict: a member that this binary does not know may be a
// restriction, and reading past it would widen access.
func decodePolicy(text string, to *project.Policy) error {
	*to = project.Policy{}
	if err := json.Unmarshal([]byte(text), to, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
}

// checkText refuses what PostgreSQL cannot store, whatever the dialect.
func checkText(column, s string) error {
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%s holds invalid UTF-8 or NUL", column)
	}
	return nil
}

// cleanText makes storable what must not be refused, such as the record of a
// request with a strange header.
func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// fold prepares names for comparison without regard to case. Databases fold
// ASCII only, or as their locale says; this is the same everywhere.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// where collects the conditions of a query and their parameters.
type where struct {
	conditions []string
	args       []any
}

// add appends a condition in which each ? stands for the next of args.
func (w *where) add(condition string, args ...any) {
	for _, arg := range args {
		condition = strings.Replace(condition, "?", w.param(arg), 1)
	}
	w.conditions = append(w.conditions, condition)
}

// param appends a parameter and returns its name.
func (w *where) param(arg any) string {
	w.args = append(w.args, arg)
	return "$" + strconv.Itoa(len(w.args))
}

var escapeLike = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// contains appends a search for text in a folded column, if there is any text.
func (w *where) contains(column, text string) {
	switch {
	case text == "":
	case len(text) > 4*project.MaxNameBytes || checkText(column, text) != nil:
		w.conditions = append(w.conditions, "FALSE") // longer than any name, or not in any
	default:
		w.add(column+" LIKE ? ESCAPE '!'", "%"+escapeLike.Replace(fold(text))+"%")
	}
}

// equals appends a comparison with a text.
func (w *where) equals(column, text string) {
	if checkText(column, text) != nil {
		w.conditions = append(w.conditions, "FALSE") // in no column
		return
	}
	w.add(column+" = ?", text)
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}
