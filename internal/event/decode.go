package event

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofrs/uuid/v5"
)

var errCalendar = errors.New("its time is beyond the calendar")

func inCalendar(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }

// Decode reads what [Event.AppendJSON] wrote, here or in another version: members
// that are not known are ignored. It refuses what no version would write, and types
// that are not known.
func Decode(text []byte) (*Event, error) {
	e := new(Event)
	if err := DecodeInto(string(text), e); err != nil {
		return nil, err
	}
	return e, nil
}

// DecodeInto is [Decode] for those who read many events, one after the other, into the
// same one. The event's texts may be parts of the given one.
func DecodeInto(text string, to *Event) error {
	*to = Event{}
	if to.readCanonical(text) {
		return nil
	}
	e, err := decodeAny([]byte(text))
	if err != nil {
		return err
	}
	*to = *e
	return nil
}

// decodeAny is Decode of every form.
func decodeAny(text []byte) (*Event, error) {
	var d decoded
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("decoding an event: %w", err)
	}
	if d.ID.IsNil() || !d.RequestID.IsNil() && d.RequestID != d.ID {
		return nil, errors.New("decoding an event: it has no id, or two")
	}
	t := moment(d.Time)
	if !inCalendar(t) {
		return nil, fmt.Errorf("decoding an event: %w", errCalendar)
	}
	switch {
	case d.Type == typeAlert:
		a, err := d.Alert.alert()
		if err != nil {
			return nil, fmt.Errorf("decoding an alert: %w", err)
		}
		return &Event{ID: d.ID, Time: t, ProjectID: d.ProjectID, TokenID: d.TokenID, Alert: a}, nil
	case d.Type != "": // not a request, which it would be counted as
		return nil, fmt.Errorf("decoding an event: it is of the type %q, which this version does not know", d.Type)
	case d.Alert != nil:
		return nil, fmt.Errorf("decoding an event: %w", errAlert)
	}
	e := &Event{
		ID: d.ID, Time: t, Method: d.Method, Endpoint: d.Endpoint, UpstreamRequestID: d.UpstreamRequestID,
		ProjectID: d.ProjectID, TokenID: d.TokenID, KeyID: d.KeyID, Provider: d.Provider, Model: d.Model,
		ResponseModel: d.ResponseModel, ServiceTier: d.ServiceTier, Status: d.Status, Outcome: d.Outcome, Code: d.Code,
		Stream: d.Stream, Attempts: d.Attempts, Cache: d.Cache,
		Latency: time.Duration(d.Latency), TTFT: time.Duration(d.TTFT), Overhead: time.Duration(d.Overhead),
		BytesIn: d.BytesIn, BytesOut: d.BytesOut,
		InputTokens: Count(d.InputTokens), CachedTokens: Count(d.CachedTokens), CacheWriteTokens: Count(d.CacheWriteTokens),
		OutputTokens: Count(d.OutputTokens), ReasoningTokens: Count(d.ReasoningTokens),
		SavedTokens: d.SavedTokens, Estimated: d.Estimated, UsageSource: d.UsageSource, CostNanoUSD: Count(d.CostNanoUSD), PriceVersion: d.PriceVersion,
		ClientIP: d.ClientIP, EndUser: d.EndUser,
		Request: body(d.Request), Response: body(d.Response), RequestTruncated: d.RequestTruncated, ResponseTruncated: d.ResponseTruncated,
	}
	if len(d.Metadata) > 0 {
		e.Metadata = d.Metadata
	}
	return e, nil
}

// body is a captured body, as JSON.
func body(value jsontext.Value) string {
	if string(value) == "null" {
		return ""
	}
	return string(value)
}

// decoded is an event as JSON has it.
type decoded struct {
	Type              string            `json:"type"` // "": a request
	ID                uuid.UUID         `json:"id"`
	RequestID         uuid.UUID         `json:"request_id"`
	Time              time.Time         `json:"time"`
	Method            string            `json:"method"`
	Endpoint          string            `json:"endpoint"`
	UpstreamRequestID string            `json:"upstream_request_id"`
	ProjectID         uuid.UUID         `json:"project_id"`
	TokenID           uuid.UUID         `json:"token_id"`
	KeyID             uuid.UUID         `json:"key_id"`
	Provider          string            `json:"provider"`
	Model             string            `json:"model"`
	ResponseModel     string            `json:"response_model"`
	ServiceTier       string            `json:"service_tier"`
	Status            int               `json:"status"`
	Outcome           string            `json:"outcome"`
	Code              string            `json:"code"`
	Stream            bool              `json:"stream"`
	Attempts          int               `json:"attempts"`
	Cache             string            `json:"cache"`
	Latency           millis            `json:"latency_ms"`
	TTFT              millis            `json:"ttft_ms"`
	Overhead          micros            `json:"overhead_us"`
	BytesIn           int64             `json:"bytes_in"`
	BytesOut          int64             `json:"bytes_out"`
	InputTokens       nullable          `json:"input_tokens"`
	CachedTokens      nullable          `json:"cached_tokens"`
	CacheWriteTokens  nullable          `json:"cache_write_tokens"`
	OutputTokens      nullable          `json:"output_tokens"`
	ReasoningTokens   nullable          `json:"reasoning_tokens"`
	SavedTokens       int64             `json:"saved_tokens"`
	Estimated         bool              `json:"estimated"`
	UsageSource       string            `json:"usage_source"`
	CostNanoUSD       nullable          `json:"cost_nano_usd"`
	PriceVersion      string            `json:"price_version"`
	ClientIP          netip.Addr        `json:"client_ip"`
	EndUser           string            `json:"end_user"`
	Metadata          map[string]string `json:"metadata"`
	Request           jsontext.Value    `json:"request"`
	Response          jsontext.Value    `json:"response"`
	RequestTruncated  bool              `json:"request_truncated"`
	ResponseTruncated bool              `json:"response_truncated"`
	Alert             *decodedAlert     `json:"alert"`
}

type (
	nullable Count
	millis   time.Duration
	micros   time.Duration
)

// UnmarshalJSON reads an integer or null.
func (c *nullable) UnmarshalJSON(text []byte) error {
	*c = nullable{}
	if string(text) == "null" {
		return nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return errors.New("expected an integer or null")
	}
	*c = nullable{n, true}
	return nil
}

// UnmarshalJSON reads a number of milliseconds.
func (m *millis) UnmarshalJSON(text []byte) error {
	d, err := parseDuration(string(text), time.Millisecond)
	*m = millis(d)
	return err
}

// UnmarshalJSON reads a number of microseconds.
func (m *micros) UnmarshalJSON(text []byte) error {
	d, err := parseDuration(string(text), time.Microsecond)
	*m = micros(d)
	return err
}

var errNumber = errors.New("expected a number of a duration's size")

// parseDuration reads a JSON number as a duration in a unit; null is zero. Digits
// below a nanosecond are dropped.
func parseDuration(text string, unit time.Duration) (time.Duration, error) {
	switch {
	case text == "null":
		return 0, nil
	case text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9'):
		return 0, errNumber
	case strings.ContainsAny(text, "eE"): // nobody writes it so, but it is a number
		f, err := strconv.ParseFloat(text, 64)
		if f *= float64(unit); err != nil || math.Abs(f) >= math.MaxInt64 {
			return 0, errNumber
		}
		return time.Duration(f), nil
	}
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > math.MaxInt64/int64(unit)-1 {
		return 0, errNumber
	}
	d := time.Duration(n) * unit
	for _, c := range fraction {
		if unit /= 10; unit == 0 {
			break
		}
		d += time.Duration(c-'0') * unit
	}
	if negative {
		d = -d
	}
	return d, nil
}
