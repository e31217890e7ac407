package event

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofrs/uuid/v5"
)

// canonical reads the form in which [Event.AppendJSON] writes a request: members in
// its order, without space. It takes a fraction of the time that a decoder for any JSON
// does. What is unusual, such as escaped characters, captured bodies, alerts and members
// of a newer version, is bad and left to that one; what is not bad, that one reads alike.
type canonical struct {
	rest string
	bad  bool
}

// readCanonical reports false, and may have changed the event, if the text is of
// another form. The event's texts are parts of it.
func (e *Event) readCanonical(text string) bool {
	c := canonical{rest: text}
	c.skip(`{"id":"`)
	e.ID = c.uuid()
	c.skip(`,"request_id":"`)
	c.bad = c.bad || c.uuid() != e.ID || e.ID.IsNil()
	c.skip(`,"time":"`)
	e.Time = c.time()
	e.Method = c.text(`,"method":"`)
	e.Endpoint = c.text(`,"endpoint":"`)
	e.UpstreamRequestID = c.text(`,"upstream_request_id":"`)
	e.ProjectID = c.id(`,"project_id":"`)
	e.TokenID = c.id(`,"token_id":"`)
	e.KeyID = c.id(`,"key_id":"`)
	e.Provider = c.text(`,"provider":"`)
	e.Model = c.text(`,"model":"`)
	e.ResponseModel = c.text(`,"response_model":"`)
	e.ServiceTier = c.text(`,"service_tier":"`)
	e.Status = c.small(`,"status":`)
	e.Outcome = c.text(`,"outcome":"`)
	e.Code = c.text(`,"code":"`)
	e.Stream = c.bool(`,"stream":`)
	e.Attempts = c.small(`,"attempts":`)
	e.Cache = c.text(`,"cache":"`)
	e.Latency = c.duration(`,"latency_ms":`, time.Millisecond)
	e.TTFT = c.duration(`,"ttft_ms":`, time.Millisecond)
	e.Overhead = c.duration(`,"overhead_us":`, time.Microsecond)
	e.BytesIn = c.int(`,"bytes_in":`)
	e.BytesOut = c.int(`,"bytes_out":`)
	e.InputTokens = c.count(`,"input_tokens":`)
	e.CachedTokens = c.count(`,"cached_tokens":`)
	e.CacheWriteTokens = c.count(`,"cache_write_tokens":`)
	e.OutputTokens = c.count(`,"output_tokens":`)
	e.ReasoningTokens = c.count(`,"reasoning_tokens":`)
	if strings.HasPrefix(c.rest, `,"saved_tokens":`) {
		e.SavedTokens = c.int(`,"saved_tokens":`)
	}
	e.Estimated = c.bool(`,"estimated":`)
	e.UsageSource = c.text(`,"usage_source":"`)
	e.CostNanoUSD = c.count(`,"cost_nano_usd":`)
	e.PriceVersion = c.text(`,"price_version":"`)
	e.ClientIP = c.address(`,"client_ip":"`)
	e.EndUser = c.text(`,"end_user":"`)
	e.Metadata = c.texts(`,"metadata":{`)
	return !c.bad && c.rest == "}"
}

// found skips a part that may be missing.
func (c *canonical) found(part string) bool {
	ok := strings.HasPrefix(c.rest, part)
	if ok {
		c.rest = c.rest[len(part):]
	}
	return ok
}

func (c *canonical) skip(part string) { c.bad = !c.found(part) || c.bad }

// quoted reads the rest of a string up to its closing quote.
func (c *canonical) quoted() string {
	high := byte(0)
	for i := 0; i < len(c.rest); i++ {
		switch b := c.rest[i]; {
		case b == '"':
			s := c.rest[:i]
			c.rest = c.rest[i+1:]
			c.bad = c.bad || high >= utf8.RuneSelf && !utf8.ValidString(s)
			return s
		case b < ' ' || b == '\\':
			c.bad = true
			return ""
		default:
			high |= b
		}
	}
	c.bad = true
	return ""
}

func (c *canonical) text(name string) string {
	if !c.found(name) {
		return ""
	}
	return c.quoted()
}

func (c *canonical) id(name string) uuid.UUID {
	if !c.found(name) {
		return uuid.Nil
	}
	return c.uuid()
}

// uuid reads the rest of a string that is an id in small letters.
func (c *canonical) uuid() (id uuid.UUID) {
	const size = 36
	if len(c.rest) <= size || c.rest[size] != '"' || c.rest[8] != '-' || c.rest[13] != '-' || c.rest[18] != '-' || c.rest[23] != '-' {
		c.bad = true
		return id
	}
	wrong := byte(0)
	for i, at := range uuidDigits {
		high, low := fromHex[c.rest[at]], fromHex[c.rest[at+1]]
		wrong |= high | low
		id[i] = high<<4 | low
	}
	c.rest = c.rest[size+1:]
	c.bad = c.bad || wrong > 15
	return id
}

// fromHex has the values of hexadecimal digits; of other bytes more than 15.
var fromHex = func() (values [256]byte) {
	for i := range values {
		values[i] = 0xff
	}
	for i, c := range []byte(hexDigits) {
		values[c] = byte(i)
	}
	return values
}()

// time reads the rest of a string that is a time as timeLayout has it.
func (c *canonical) time() time.Time {
	const size = len(timeLayout)
	if len(c.rest) <= size || c.rest[size] != '"' {
		c.bad = true
		return time.Time{}
	}
	s := c.rest[:size]
	c.rest = c.rest[size+1:]
	for _, at := range [...]byte{4, 7, 10, 13, 16, 19, 26} {
		c.bad = c.bad || s[at] != timeLayout[at]
	}
	year, month, day := c.digits(s[:4]), c.digits(s[5:7]), c.digits(s[8:10])
	hour, minute, second := c.digits(s[11:13]), c.digits(s[14:16]), c.digits(s[17:19])
	t := time.Date(year, time.Month(month), day, hour, minute, second, c.digits(s[20:26])*1000, time.UTC)
	// A day that its month does not have would be one of the next.
	c.bad = c.bad || year < 1 || month < 1 || month > 12 || day < 1 || t.Day() != day || hour > 23 || minute > 59 || second > 59
	return t
}

func (c *canonical) digits(s string) (n int) {
	for i := range len(s) {
		d := s[i] - '0'
		c.bad = c.bad || d > 9
		n = 10*n + int(d)
	}
	return n
}

// number reads an integer that is surely in the bounds of its type.
func (c *canonical) number(most int) int64 {
	at, negative := 0, strings.HasPrefix(c.rest, "-")
	if negative {
		at = 1
	}
	from, n := at, int64(0)
	for at < len(c.rest) && c.rest[at]-'0' <= 9 && at-from <= most {
		n = 10*n + int64(c.rest[at]-'0')
		at++
	}
	if at == from || at-from > most || at-from > 1 && c.rest[from] == '0' {
		c.bad = true
		return 0
	}
	c.rest = c.rest[at:]
	if negative {
		return -n
	}
	return n
}

func (c *canonical) int(name string) int64 {
	c.skip(name)
	return c.number(18)
}

func (c *canonical) small(name string) int {
	c.skip(name)
	return int(c.number(9))
}

func (c *canonical) count(name string) Count {
	c.skip(name)
	if c.found("null") {
		return Count{}
	}
	return Known(c.number(18))
}

func (c *canonical) bool(name string) bool {
	c.skip(name)
	if c.found("true") {
		return true
	}
	c.skip("false")
	return false
}

// duration reads up to some hours and down to a nanosecond.
func (c *canonical) duration(name string, unit time.Duration) time.Duration {
	c.skip(name)
	if c.found("null") {
		return 0
	}
	negative := strings.HasPrefix(c.rest, "-")
	d := time.Duration(c.number(11)) * unit // less than 293 years
	if !c.found(".") {
		return d
	}
	at := 0
	for ; at < len(c.rest) && c.rest[at]-'0' <= 9; at++ {
		if unit /= 10; unit == 0 {
			c.bad = true
			return 0
		}
		part := time.Duration(c.rest[at]-'0') * unit
		if negative {
			part = -part
		}
		d += part
	}
	c.bad = c.bad || at == 0
	c.rest = c.rest[at:]
	return d
}

func (c *canonical) address(name string) netip.Addr {
	if !c.found(name) {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(c.quoted())
	c.bad = c.bad || err != nil
	return ip
}

// texts reads an object that is not empty. Its names ascend, so that none is there twice.
func (c *canonical) texts(name string) map[string]string {
	if !c.found(name) {
		return nil
	}
	m, last := map[string]string{}, ""
	for more := true; more && !c.bad; more = c.found(",") {
		c.skip(`"`)
		key := c.quoted()
		c.skip(`:"`)
		c.bad = c.bad || len(m) > 0 && key <= last
		m[key], last = c.quoted(), key
	}
	c.skip("}")
	return m
}
