package event

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofrs/uuid/v5"
)

const timeLayout = "2006-01-02T15:04:05.000000Z"

// AppendJSON appends the event as one JSON object, with its members always in the
// same order. Texts, ids and maps that are empty are left out, counts that are
// unknown and a time to first byte that never came are null. An alert begins with its
// type; a request has none.
func (e *Event) AppendJSON(b []byte) []byte {
	if e.Alert != nil {
		return e.appendAlert(b)
	}
	b = append(b, `{"id":"`...)
	b = appendUUID(b, e.ID)
	b = append(b, `","request_id":"`...)
	b = appendUUID(b, e.ID)
	b = append(b, `","time":"`...)
	b = e.Time.UTC().AppendFormat(b, timeLayout)
	b = append(b, '"')
	b = appendText(b, "method", e.Method)
	b = appendText(b, "endpoint", e.Endpoint)
	b = appendText(b, "upstream_request_id", e.UpstreamRequestID)
	b = appendID(b, "project_id", e.ProjectID)
	b = appendID(b, "token_id", e.TokenID)
	b = appendID(b, "key_id", e.KeyID)
	b = appendText(b, "provider", e.Provider)
	b = appendText(b, "model", e.Model)
	b = appendText(b, "response_model", e.ResponseModel)
	b = appendText(b, "service_tier", e.ServiceTier)
	b = appendInt(b, "status", int64(e.Status))
	b = appendText(b, "outcome", e.Outcome)
	b = appendText(b, "code", e.Code)
	b = appendBool(b, "stream", e.Stream)
	b = appendInt(b, "attempts", int64(e.Attempts))
	b = appendText(b, "cache", e.Cache)
	b = appendDuration(appendName(b, "latency_ms"), e.Latency, time.Millisecond)
	b = appendName(b, "ttft_ms")
	if e.TTFT == 0 {
		b = append(b, "null"...)
	} else {
		b = appendDuration(b, e.TTFT, time.Millisecond)
	}
	b = appendDuration(appendName(b, "overhead_us"), e.Overhead, time.Microsecond)
	b = appendInt(b, "bytes_in", e.BytesIn)
	b = appendInt(b, "bytes_out", e.BytesOut)
	b = appendCount(b, "input_tokens", e.InputTokens)
	b = appendCount(b, "cached_tokens", e.CachedTokens)
	b = appendCount(b, "cache_write_tokens", e.CacheWriteTokens)
	b = appendCount(b, "output_tokens", e.OutputTokens)
	b = appendCount(b, "reasoning_tokens", e.ReasoningTokens)
	if e.SavedTokens != 0 {
		b = appendInt(b, "saved_tokens", e.SavedTokens)
	}
	b = appendBool(b, "estimated", e.Estimated)
	b = appendText(b, "usage_source", e.UsageSource)
	b = appendCount(b, "cost_nano_usd", e.CostNanoUSD)
	b = appendText(b, "price_version", e.PriceVersion)
	if e.ClientIP.IsValid() {
		b = append(appendName(b, "client_ip"), '"')
		if e.ClientIP.Zone() == "" {
			b = append(e.ClientIP.AppendTo(b), '"')
		} else {
			b = appendQuoted(b[:len(b)-1], e.ClientIP.String()) // a zone may be any text
		}
	}
	b = appendText(b, "end_user", e.EndUser)
	b = appendMap(b, "metadata", e.Metadata)
	b = appendBody(b, "request", e.Request)
	b = appendBody(b, "response", e.Response)
	if e.RequestTruncated {
		b = appendBool(b, "request_truncated", true)
	}
	if e.ResponseTruncated {
		b = appendBool(b, "response_truncated", true)
	}
	return append(b, '}')
}

// appendName begins a member that is not the first.
func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendText(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendQuoted(appendName(b, name), text)
}

// appendBody embeds a body that is JSON, as it is made to be before it gets here, on
// one line; any other is a text.
func appendBody(b []byte, name, body string) []byte {
	if body == "" {
		return b
	}
	value := jsontext.Value(body)
	if err := value.Compact(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)); err != nil {
		return appendText(b, name, body)
	}
	return append(appendName(b, name), value...)
}

func appendID(b []byte, name string, id uuid.UUID) []byte {
	if id.IsNil() {
		return b
	}
	b = append(appendName(b, name), '"')
	return append(appendUUID(b, id), '"')
}

func appendInt(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(appendName(b, name), n, 10)
}

func appendBool(b []byte, name string, v bool) []byte {
	return strconv.AppendBool(appendName(b, name), v)
}

func appendCount(b []byte, name string, c Count) []byte {
	if !c.Known {
		return append(appendName(b, name), "null"...)
	}
	return appendInt(b, name, c.N)
}

// appendDuration writes a duration in a unit, exactly: a fraction has as many
// digits as it needs.
func appendDuration(b []byte, d, unit time.Duration) []byte {
	whole, rest := d/unit, d%unit
	if d < 0 {
		b = append(b, '-')
		whole, rest = -whole, -rest
	}
	b = strconv.AppendUint(b, uint64(whole), 10)
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for unit /= 10; rest > 0; unit /= 10 {
		b = append(b, '0'+byte(rest/unit))
		rest %= unit
	}
	return b
}

func appendMap(b []byte, name string, m map[string]string) []byte {
	if len(m) == 0 {
		return b
	}
	var room [16]string
	keys := room[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(appendName(b, name), '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, k), ':')
		b = appendQuoted(b, m[k])
	}
	return append(b, '}')
}

const hexDigits = "0123456789abcdef"

func appendUUID(b []byte, id uuid.UUID) []byte {
	text := [36]byte{8: '-', 13: '-', 18: '-', 23: '-'}
	for i, at := range uuidDigits {
		text[at], text[at+1] = hexDigits[id[i]>>4], hexDigits[id[i]&15]
	}
	return append(b, text[:]...)
}

// uuidDigits is where the two digits of each byte are in an id's text.
var uuidDigits = [len(uuid.UUID{})]byte{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// appendQuoted writes a JSON string. What is not UTF-8 becomes U+FFFD.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			b = append(append(b, s[from:i]...), "\uFFFD"...)
		} else if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		} else {
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}
