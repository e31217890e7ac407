package event

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"pgregory.net/rapid"
)

var anyEvent = rapid.Custom(func(t *rapid.T) *Event {
	id := func(name string) (id uuid.UUID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name))
		return id
	}
	text := rapid.String()
	count := func(name string) Count {
		if rapid.Bool().Draw(t, name+" known") {
			return Known(rapid.Int64().Draw(t, name))
		}
		return Count{}
	}
	duration := func(name string) time.Duration {
		return time.Duration(rapid.Int64Range(-1<<62, 1<<62).Draw(t, name))
	}
	e := &Event{
		ID: id("id"), Time: time.UnixMicro(rapid.Int64Range(-62135596800e6, 253402300799e6).Draw(t, "time")).UTC(),
		Method: text.Draw(t, "method"), Endpoint: text.Draw(t, "endpoint"), UpstreamRequestID: text.Draw(t, "upstream"),
		ProjectID: id("project"), TokenID: id("token"), KeyID: id("key"),
		Provider: text.Draw(t, "provider"), Model: text.Draw(t, "model"), ResponseModel: text.Draw(t, "response model"), ServiceTier: text.Draw(t, "tier"),
		SavedTokens: int64(rapid.Uint32().Draw(t, "saved")),
		Status:      rapid.IntRange(-1000, 1000).Draw(t, "status"), Outcome: text.Draw(t, "outcome"), Code: text.Draw(t, "code"),
		Stream: rapid.Bool().Draw(t, "stream"), Attempts: rapid.Int().Draw(t, "attempts"), Cache: text.Draw(t, "cache"),
		Latency: duration("latency"), TTFT: duration("ttft"), Overhead: duration("overhead"),
		BytesIn: rapid.Int64().Draw(t, "in"), BytesOut: rapid.Int64().Draw(t, "out"),
		InputTokens: count("input"), CachedTokens: count("cached"), CacheWriteTokens: count("cache write"), OutputTokens: count("output"),
		ReasoningTokens: count("reasoning"), Estimated: rapid.Bool().Draw(t, "estimated"), UsageSource: text.Draw(t, "source"),
		CostNanoUSD: count("cost"), PriceVersion: text.Draw(t, "price"), EndUser: text.Draw(t, "user"),
		Request: jsonText(text.Draw(t, "request")), Response: jsonText(text.Draw(t, "response")),
		RequestTruncated: rapid.Bool().Draw(t, "cut"), ResponseTruncated: rapid.Bool().Draw(t, "cut too"),
	}
	if e.ID.IsNil() {
		e.ID[0] = 1
	}
	switch rapid.IntRange(0, 3).Draw(t, "address") {
	case 1:
		e.ClientIP = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
	case 2:
		e.ClientIP = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6")))
	case 3:
		e.ClientIP = netip.MustParseAddr("fe80::1").WithZone(`e"th` + "\n0")
	}
	if m := rapid.MapOfN(text, text, 0, 20).Draw(t, "metadata"); len(m) > 0 {
		e.Metadata = m
	}
	return e
})

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent.Draw(t, "event")
		text := e.AppendJSON([]byte("before"))
		got, err := Decode(text[len("before"):])
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("got %+v\nwant %+v\n%s", got, e, text)
		}
	})
}

// TestEveryField finds members that were forgotten.
func TestEveryField(t *testing.T) {
	e := Event{}
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case uuid.UUID:
			f.Set(reflect.ValueOf(uuid.UUID{byte(i + 1)}))
		case time.Time:
			f.Set(reflect.ValueOf(time.UnixMicro(1750000000123456).UTC()))
		case netip.Addr:
			f.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
		case Count:
			f.Set(reflect.ValueOf(Known(int64(i))))
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{"a": "b"}))
		case string:
			f.SetString(v.Type().Field(i).Name)
		case func(*Event): // of no interest once it is written
		case *Alert: // and then nothing else is written
		case bool:
			f.SetBool(true)
		default:
			f.SetInt(int64(i) * 1000001)
		}
	}
	e.Request, e.Response = jsonText(e.Request), jsonText(e.Response)
	text := e.AppendJSON(nil)
	got, err := Decode(text)
	if err != nil || !reflect.DeepEqual(*got, e) {
		t.Errorf("got %+v\nwant %+v, %v", got, e, err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(`attempts bytes_in bytes_out cache cache_write_tokens cached_tokens client_ip code cost_nano_usd end_user endpoint estimated id
		input_tokens key_id latency_ms metadata method model outcome output_tokens overhead_us price_version project_id provider reasoning_tokens request request_id
		request_truncated response response_model response_truncated saved_tokens service_tier status stream time token_id ttft_ms upstream_request_id usage_source`)
	slices.Sort(want)
	if names := slices.Sorted(maps.Keys(m)); !slices.Equal(names, want) {
		t.Errorf("members are\n%v\nwant\n%v", names, want)
	}
	e.Alert = new(Alert)
	e.Release()
	if fresh := Get(); !reflect.DeepEqual(*fresh, Event{}) {
		t.Errorf("a fresh event is %+v", fresh)
	}
}

func TestJSON(t *testing.T) {
	e := &Event{ID: uuid.FromStringOrNil("01890000-0000-7000-8000-000000000001"), Time: time.UnixMicro(1750000000000001), Status: 200, Outcome: "ok",
		Latency: 1234567891, Overhead: 87654, InputTokens: Known(0), Model: "a\"\\\n\x01\xffü"}
	const want = `{"id":"01890000-0000-7000-8000-000000000001","request_id":"01890000-0000-7000-8000-000000000001","time":"2025-06-15T15:06:40.000001Z",` +
		`"model":"a\"\\\n\u0001` + "\uFFFD" + `ü","status":200,"outcome":"ok","stream":false,"attempts":0,"latency_ms":1234.567891,"ttft_ms":null,"overhead_us":87.654,` +
		`"bytes_in":0,"bytes_out":0,"input_tokens":0,"cached_tokens":null,"cache_write_tokens":null,"output_tokens":null,"reasoning_tokens":null,` +
		`"estimated":false,"cost_nano_usd":null}`
	if got := string(e.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDecode(t *testing.T) {
	const id = `"id":"01890000-0000-7000-8000-000000000001"`
	for _, text := range []string{
		``, `null`, `{}`, `[]`, `{"id":"x"}`, `{` + id + `} x`, `{` + id + `,` + id + `}`, `{` + id + `,"request_id":"01890000-0000-7000-8000-000000000002"}`,
		`{` + id + `,"status":"200"}`, `{` + id + `,"status":200.5}`, `{` + id + `,"input_tokens":1.5}`, `{` + id + `,"input_tokens":"1"}`,
		`{` + id + `,"latency_ms":"1"}`, `{` + id + `,"latency_ms":1e300}`, `{` + id + `,"latency_ms":99999999999999999999}`, `{` + id + `,"latency_ms":true}`,
		`{` + id + `,"time":"yesterday"}`, `{` + id + `,"model":"` + "\xff" + `"}`, `{` + id + `,"client_ip":"1.2.3"}`,
	} {
		if e, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s: decoded as %+v", text, e)
		}
	}
	e, err := Decode([]byte(`{` + id + `,"time":"2025-06-15T17:06:40.1234567+02:00","latency_ms":1.5e3,"overhead_us":1.2345,"ttft_ms":null,"new":{"a":[1]},"cost_nano_usd":0}`))
	if err != nil || e.Latency != 1500*time.Millisecond || e.Overhead != 1234 || e.TTFT != 0 || e.CostNanoUSD != Known(0) || e.InputTokens.Known ||
		!e.Time.Equal(time.UnixMicro(1750000000123456)) {
		t.Errorf("decoded %+v, %v", e, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"id":"01890000-0000-7000-8000-000000000001","time":"2025-06-15T15:06:40Z","latency_ms":-0.0000001,"metadata":{"a":"\u0000"}}`))
	f.Add((&Event{ID: uuid.UUID{1}, TTFT: 1, ClientIP: netip.MustParseAddr("::1")}).AppendJSON(nil))
	for _, text := range almostCanonical() {
		f.Add([]byte(text))
	}
	f.Add(budgetAlert().AppendJSON(nil))
	f.Add(requestsAlert().AppendJSON(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Decode(text)
		if plain, plainErr := decodeAny(text); (err == nil) != (plainErr == nil) || err == nil && !reflect.DeepEqual(e, plain) {
			t.Errorf("%q: %+v, %v; read as any JSON %+v, %v", text, e, err, plain, plainErr)
		}
		if err != nil {
			return
		}
		again, err := Decode(e.AppendJSON(nil))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%q: %+v, then %+v, %v", text, e, again, err)
		}
	})
}

// almostCanonical are texts as AppendJSON writes them, and such that differ a little:
// some are events all the same, others are none.
func almostCanonical() []string {
	e := newEvent()
	e.ProjectID, e.TokenID, e.KeyID, e.Latency, e.TTFT, e.Overhead = e.ID, e.ID, e.ID, 1234567891, -345678912, 5
	e.SavedTokens, e.ClientIP, e.EndUser, e.Metadata = 4, netip.MustParseAddr("2001:db8::1"), "münchen", map[string]string{"a": "b", "c": ""}
	e.Time = time.Date(2024, 2, 29, 23, 59, 59, 999999000, time.UTC)
	text := string(e.AppendJSON(nil))
	list := []string{text, text[:len(text)-1], text + " ", text + "}"}
	for _, change := range [][2]string{
		{`"2024-02-29T`, `"2023-02-29T`}, {`"2024-02-29T`, `"0000-02-29T`}, {`"2024-02-29T`, `"2024-02-00T`}, {`"2024-02-29T`, `"2024-13-29T`}, {"T23:", "T24:"},
		{":59.", ":60."}, {"T23:59", "T23:60"}, {".999999Z", ".99999xZ"}, {".999999Z", ".999999z"}, {".999999Z", "+00:00"}, {"T23:", " 23:"},
		{`"latency_ms":`, `"latency_ms":0`}, {`"latency_ms":`, `"latency_ms":-`}, {`"latency_ms":1234.`, `"latency_ms":99999999999.`},
		{`"latency_ms":1234.`, `"latency_ms":99999999999999.`}, {`"latency_ms":1234.567891`, `"latency_ms":1234.`}, {"1234.567891", "1234.5678912"}, {"1234.567891", "1.5e3"},
		{`"ttft_ms":-345`, `"ttft_ms":-0`}, {`"status":`, `"status":1000000000`}, {`"status":`, `"status":99999999999999999999`}, {`"attempts":`, `"attempts":+`},
		{`"bytes_in":`, `"bytes_in":null,"x":`}, {`"bytes_in":`, `"bytes_in":1000000000000000000`}, {`"bytes_in":`, `"bytes_in":9000000000000000000`},
		{`"saved_tokens":4`, `"saved_tokens":null`}, {`"saved_tokens":4`, `"saved_tokens":4.0`}, {`"stream":`, `"stream":1,"y":`}, {`"estimated":false`, `"estimated":null`},
		{"2001:db8::1", "2001:db8::x"}, {"2001:db8::1", ""}, {"2001:db8::1", "fe80::1%eth0"}, {"münchen", "m\xfcnchen"}, {"münchen", `m\u00fcnchen`}, {"münchen", "m\tn"},
		{`{"a":"b","c":""}`, `{"c":"","a":"b"}`}, {`{"a":"b","c":""}`, `{"a":"b","a":""}`}, {`{"a":"b","c":""}`, `{"a":"b",}`}, {`{"a":"b","c":""}`, `{}`}, {`{"a":"b","c":""}`, `{"":"b"}`},
		{`{"a":"b","c":""}`, `{"a":1}`}, {`"c":""}`, `"c":""},"request":null`}, {`"c":""}`, `"c":""},"request":{"a":[1]},"request_truncated":true`}, {`"c":""}`, `"c":""},"alert":{}`},
		{`,"status"`, `,"future":1,"status"`}, {`,"status"`, `,"method":"GET","status"`}, {`{"id":"`, `{"id":"00000000-0000-0000-0000-000000000000","x":"`}, {`{"id":"`, `{"type":"","id":"`},
		{e.ID.String(), strings.ToUpper(e.ID.String())}, {e.ID.String(), "g" + e.ID.String()[1:]}, {`"project_id":"`, `"project_id":"x`},
	} {
		list = append(list, strings.Replace(text, change[0], change[1], 1))
	}
	list = append(list, strings.ReplaceAll(text, e.ID.String(), uuid.Nil.String()), strings.ReplaceAll(text, e.ID.String(), strings.ToUpper(e.ID.String())))
	return list
}

// TestCanonical: what is read the short way is what is read the long way, and what
// AppendJSON writes is read the short way.
func TestCanonical(t *testing.T) {
	texts := almostCanonical()
	if !new(Event).readCanonical(texts[0]) {
		t.Errorf("not canonical: %s", texts[0])
	}
	for i, text := range texts {
		if i > 0 && text == texts[0] {
			t.Errorf("change %d changes nothing", i)
		}
		e, err := Decode([]byte(text))
		plain, plainErr := decodeAny([]byte(text))
		if (err == nil) != (plainErr == nil) || err == nil && !reflect.DeepEqual(e, plain) {
			t.Errorf("%s\nis %+v, %v\nread as any JSON %+v, %v", text, e, err, plain, plainErr)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := anyEvent.Draw(t, "event").AppendJSON(nil)
		e := new(Event)
		if !e.readCanonical(string(text)) {
			return
		}
		if plain, err := decodeAny(text); err != nil || !reflect.DeepEqual(e, plain) {
			t.Fatalf("%s\nis %+v\nread as any JSON %+v, %v", text, e, plain, err)
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	e := newEvent()
	e.ProjectID, e.TokenID, e.KeyID, e.Latency, e.TTFT = e.ID, e.ID, e.ID, 1234567891, 345678912
	e.ClientIP = netip.MustParseAddr("192.0.2.1")
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0])
	}
}

func BenchmarkDecode(b *testing.B) {
	text := newEvent().AppendJSON(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}

// jsonText is a body as JSON; "" is none.
func jsonText(body string) string {
	if body == "" {
		return ""
	}
	return string(appendQuoted(nil, body))
}

// A body that is JSON is a value of the event's, on one line; any other is a text.
func TestBodies(t *testing.T) {
	for body, want := range map[string]string{
		"{\n \"a\": [1, 2]\n}": `{"a":[1,2]}`, `"text"`: `"text"`, "[]": "[]", "no JSON\n": `"no JSON\n"`, `{"a":`: `"{\"a\":"`, "null": "",
	} {
		e := &Event{ID: uuid.Must(uuid.NewV7()), Time: time.Now(), Request: body, Response: body}
		text := e.AppendJSON(nil)
		got, err := Decode(text)
		if err != nil || got.Request != want || got.Response != want || bytes.ContainsRune(text, '\n') {
			t.Errorf("%q: %q, %v in %s", body, got.Request, err, text)
		}
	}
}

// Prepare is called once, before anything is written.
func TestPrepare(t *testing.T) {
	calls := 0
	e := &Event{Request: "raw", Prepare: func(e *Event) { calls++; e.Request = `"ready"` }}
	e.prepare()
	e.prepare()
	if calls != 1 || e.Request != `"ready"` {
		t.Errorf("%d calls, %q", calls, e.Request)
	}
}
