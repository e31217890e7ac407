package event

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// Whose limit an [Alert] is about.
const (
	ScopeToken   = "token"
	ScopeProject = "project"
)

// Limits that an [Alert] is about, by their names in the management API.
const (
	LimitRequests = "max_requests"
	LimitBudget   = "budget_usd"
)

// typeAlert is the member "type" of an alert. A request has none.
const typeAlert = "alert"

// Alert says that so much of a limit was used when it was made. Amounts are
// nanodollars if the limit is of money, and numbers of requests otherwise.
type Alert struct {
	Scope     string // one of the Scope constants
	Limit     string // one of the Limit constants
	Percent   int    // that were reached, such as 80
	Amount    int64  // of the limit
	Used      int64
	Held      int64 // by requests that are under way
	Available int64
	ResetsAt  time.Time // when the next period begins; zero: never
	Period    string    // total, day, week or month
}

// NewAlert makes an event that is an alert and no request: of a token, or of a project
// and then without a token. It is for [Log.Append], which takes it over.
func NewAlert(at time.Time, projectID, tokenID uuid.UUID, a Alert) *Event {
	e := Get()
	e.ID = uuid.Must(uuid.NewV7AtTime(at)) // fails only without a source of randomness, which ends the process anyway
	e.Time, e.ProjectID, e.TokenID = moment(at), projectID, tokenID
	a.ResetsAt = moment(a.ResetsAt)
	e.Alert = &a
	return e
}

// moment is a time as JSON keeps it.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Money reports whether the limit is one of money. The name says so, and so does that
// of a limit which a newer version may write.
func (a *Alert) Money() bool { return strings.HasSuffix(a.Limit, "_usd") }

// Text is one of the alert's amounts: a decimal of dollars, or a number of requests.
func (a *Alert) Text(amount int64) string {
	if a.Money() {
		return usd.Format(amount)
	}
	return strconv.FormatInt(amount, 10)
}

// String tells people what has happened.
func (a *Alert) String() string {
	text := fmt.Sprintf("%d %% of the %s's %s used: %s of %s", a.Percent, a.Scope, a.Limit, a.Text(a.Used), a.Text(a.Amount))
	if a.Percent >= 100 && a.Used < a.Amount {
		text = fmt.Sprintf("what is left of the %s's %s is not enough for a request: %s of %s used", a.Scope, a.Limit, a.Text(a.Used), a.Text(a.Amount))
	}
	text += fmt.Sprintf(", %s held, %s left", a.Text(a.Held), a.Text(a.Available))
	if !a.ResetsAt.IsZero() {
		text += ", until " + a.ResetsAt.UTC().Format(time.RFC3339)
	}
	return text
}

// appendAlert is [Event.AppendJSON] of an alert.
func (e *Event) appendAlert(b []byte) []byte {
	a := e.Alert
	b = append(b, `{"type":"`+typeAlert+`","id":"`...)
	b = append(appendUUID(b, e.ID), '"')
	b = appendMoment(b, "time", e.Time)
	b = appendID(b, "project_id", e.ProjectID)
	b = appendID(b, "token_id", e.TokenID)
	b = append(b, `,"alert":{"scope":`...)
	b = appendQuoted(b, a.Scope)
	b = appendQuoted(appendName(b, "limit"), a.Limit)
	b = appendInt(b, "percent", int64(a.Percent))
	b = a.appendAmount(b, "limit_amount", a.Amount)
	b = a.appendAmount(b, "used", a.Used)
	b = a.appendAmount(b, "held", a.Held)
	b = a.appendAmount(b, "available", a.Available)
	b = appendText(b, "period", a.Period)
	if a.ResetsAt.IsZero() {
		b = append(appendName(b, "resets_at"), "null"...)
	} else {
		b = appendMoment(b, "resets_at", a.ResetsAt)
	}
	return append(b, '}', '}')
}

func appendMoment(b []byte, name string, t time.Time) []byte {
	b = append(appendName(b, name), '"')
	return append(t.UTC().AppendFormat(b, timeLayout), '"')
}

// appendAmount writes money as a string, which no reader rounds.
func (a *Alert) appendAmount(b []byte, name string, n int64) []byte {
	if !a.Money() {
		return appendInt(b, name, n)
	}
	b = append(appendName(b, name), '"')
	return append(usd.Append(b, n), '"')
}

// decodedAlert is an alert as JSON has it.
type decodedAlert struct {
	Scope     string         `json:"scope"`
	Limit     string         `json:"limit"`
	Percent   int            `json:"percent"`
	Amount    jsontext.Value `json:"limit_amount"`
	Used      jsontext.Value `json:"used"`
	Held      jsontext.Value `json:"held"`
	Available jsontext.Value `json:"available"`
	Period    string         `json:"period"`
	ResetsAt  *time.Time     `json:"resets_at"`
}

var errAlert = errors.New("an alert has a scope, a limit and amounts, and nothing else has them")

// alert reads what [Event.appendAlert] wrote. Scopes, limits and periods that are not
// known are left as they are: receivers may know them.
func (d *decodedAlert) alert() (*Alert, error) {
	if d == nil || d.Scope == "" || d.Limit == "" {
		return nil, errAlert
	}
	a := &Alert{Scope: d.Scope, Limit: d.Limit, Percent: d.Percent, Period: d.Period}
	for _, amount := range []struct {
		text jsontext.Value
		to   *int64
	}{{d.Amount, &a.Amount}, {d.Used, &a.Used}, {d.Held, &a.Held}, {d.Available, &a.Available}} {
		var err error
		if *amount.to, err = a.parseAmount(amount.text); err != nil {
			return nil, err
		}
	}
	if d.ResetsAt != nil {
		a.ResetsAt = moment(*d.ResetsAt)
		if !inCalendar(a.ResetsAt) {
			return nil, errCalendar
		}
	}
	return a, nil
}

func (a *Alert) parseAmount(text jsontext.Value) (int64, error) {
	if !a.Money() {
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return 0, errAlert
		}
		return n, nil
	}
	if text.Kind() != '"' {
		return 0, errAlert
	}
	quoted, err := jsontext.AppendUnquote(nil, text)
	if err != nil {
		return 0, errAlert
	}
	digits, negative := strings.CutPrefix(string(quoted), "-")
	n, err := usd.ParseDecimal(digits, usd.Places)
	switch {
	case err != nil:
		return 0, err
	case negative && n <= -math.MinInt64:
		return -int64(n), nil
	case negative || n > math.MaxInt64:
		return 0, usd.ErrTooLarge
	}
	return int64(n), nil
}
