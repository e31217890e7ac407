package respcache_test

import (
	"bytes"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// instant draws times, the zero one too.
func instant() *rapid.Generator[time.Time] {
	return rapid.OneOf(rapid.Just(time.Time{}), rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(-1<<30, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
	}))
}

func anyEntry(t *rapid.T) *respcache.Entry {
	length, name := rapid.Int64(), rapid.String()
	span := func(label string) time.Duration { return time.Duration(length.Draw(t, label)) }
	e := &respcache.Entry{
		Tags: respcache.Tags{
			Provider: name.Draw(t, "provider"), Project: name.Draw(t, "project"), Model: name.Draw(t, "model"),
			Method: name.Draw(t, "method"), Path: name.Draw(t, "path"), Query: name.Draw(t, "query"),
		},
		Meta: httpcache.Meta{
			Status: rapid.IntRange(0, 999).Draw(t, "status"), Vary: rapid.SliceOfN(name, 0, 3).Draw(t, "vary"), Method: name.Draw(t, "meta method"),
			Date: instant().Draw(t, "date"), ResponseTime: instant().Draw(t, "response time"),
			InitialAge: span("age"), Lifetime: span("lifetime"), IfError: span("if error"), WhileRefresh: span("while refresh"),
			AlwaysConfirm: rapid.Bool().Draw(t, "always confirm"), NeverStale: rapid.Bool().Draw(t, "never stale"),
		},
		Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
		Usage: respcache.Usage{
			Model: name.Draw(t, "usage model"), ServiceTier: name.Draw(t, "tier"), Input: length.Draw(t, "input"), Cached: length.Draw(t, "cached"),
			CacheWrite: length.Draw(t, "cache write"), Output: length.Draw(t, "output"), Reasoning: length.Draw(t, "reasoning"),
		},
		Until: instant().Draw(t, "until"),
	}
	e.Meta.Header = rapid.MapOfN(name, rapid.SliceOfN(name, 1, 2), 0, 4).Draw(t, "header")
	for range rapid.IntRange(0, 3).Draw(t, "marks") {
		e.Marks = append(e.Marks, respcache.Mark{End: length.Draw(t, "end"), At: span("at")})
	}
	return e
}

// tidy makes what has no elements nil, as what was read is.
func tidy(e *respcache.Entry) *respcache.Entry {
	if len(e.Body) == 0 {
		e.Body = nil
	}
	if len(e.Meta.Vary) == 0 {
		e.Meta.Vary = nil
	}
	if len(e.Meta.Header) == 0 {
		e.Meta.Header = nil
	}
	return e
}

func TestCodec(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := tidy(anyEntry(t))
		plain := respcache.EncodeEntry(e)
		packed := respcache.Pack(plain)
		unpacked, err := respcache.Unpack(packed)
		if err != nil || !bytes.Equal(unpacked, plain) {
			t.Fatalf("%x becomes %x, %v", plain, unpacked, err)
		}
		got, err := respcache.DecodeEntry(unpacked)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v becomes %+v, %v", e, got, err)
		}
		cut := rapid.IntRange(0, len(plain)-1).Draw(t, "cut")
		if _, err := respcache.DecodeEntry(plain[:cut]); err == nil {
			t.Fatalf("the first %d of %d bytes are read", cut, len(plain))
		}
		if _, err := respcache.DecodeEntry(append(slices.Clone(plain), 0)); err == nil {
			t.Fatal("a further byte is read")
		}
	})
}

// TestCodecKnowsEveryField: a field that is added needs another version of the form.
func TestCodecKnowsEveryField(t *testing.T) {
	t.Parallel()
	for _, of := range []struct {
		value any
		known int
	}{{httpcache.Meta{}, 12}, {respcache.Usage{}, 7}, {respcache.Tags{}, 6}, {respcache.Mark{}, 2}, {respcache.Entry{}, 9}} {
		if got := reflect.TypeOf(of.value).NumField(); got != of.known {
			t.Errorf("%T has %d fields, the codec knows %d", of.value, got, of.known)
		}
	}
}

func TestPack(t *testing.T) {
	t.Parallel()
	long := []byte(strings.Repeat("data: {}\n\n", 1000))
	packed := respcache.Pack(long)
	if len(packed) > len(long)/10 {
		t.Errorf("%d bytes become %d", len(long), len(packed))
	}
	short := []byte("short")
	if got := respcache.Pack(short); len(got) != len(short)+1 {
		t.Errorf("%d bytes become %d", len(short), len(got))
	}
	for _, bad := range [][]byte{nil, {9}, {1}, {1, 0xff}, packed[:len(packed)-1], append([]byte{1, 1}, packed[3:]...), {1, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}} {
		if got, err := respcache.Unpack(bad); err == nil {
			t.Errorf("%.20x is read as %d bytes", bad, len(got))
		}
	}
}

// FuzzDecode: whatever is in Redis and authentic is an entry that is written the same
// way, or an error, without more memory than it is long.
func FuzzDecode(f *testing.F) {
	e := &respcache.Entry{Meta: httpcache.Meta{Status: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Vary: []string{"Accept"}}, Body: []byte("data: [DONE]\n\n"), Marks: []respcache.Mark{{End: 14, At: 1}}}
	plain := respcache.EncodeEntry(e)
	f.Add(respcache.Pack(plain))
	f.Add(respcache.Pack([]byte(strings.Repeat("x", 2000))))
	f.Add(append([]byte{0, 1}, 0xff, 0xff, 0xff, 0xff, 0x0f))
	f.Fuzz(func(t *testing.T, packed []byte) {
		plain, err := respcache.Unpack(packed)
		if err != nil {
			return
		}
		e, err := respcache.DecodeEntry(plain)
		if err != nil {
			return
		}
		again, err := respcache.DecodeEntry(respcache.EncodeEntry(e))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("%+v becomes %+v, %v", e, again, err)
		}
	})
}

// FuzzIndex: what somebody wrote into an index is lines that are written the same
// way, or nothing.
func FuzzIndex(f *testing.F) {
	field := strings.Repeat("0a", 16)
	f.Add(field + " 1700000000000 bGFiZWw Accept,Origin\n" + field + " 1 x ")
	f.Add(field + " 1 x *\n\n   \n" + field[1:] + " 1 x ")
	f.Fuzz(func(t *testing.T, text string) {
		lines, lists := respcache.ParseIndex(text)
		if len(lines) > 32 {
			t.Fatalf("%d lines", len(lines))
		}
		again, same := respcache.ParseIndex(strings.Join(lines, "\n"))
		if !slices.Equal(again, lines) || !reflect.DeepEqual(same, lists) {
			t.Fatalf("%q becomes %q", lines, again)
		}
	})
}
