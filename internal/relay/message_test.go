package relay

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/gofrs/uuid/v5"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func anyChange(t *rapid.T) token.Change {
	return token.Change{
		Kind:    token.ChangeKind(rapid.IntRange(1, 3).Draw(t, "kind")),
		ID:      uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
		Version: rapid.Int64Range(1, math.MaxInt64).Draw(t, "version"),
		Revoked: rapid.Bool().Draw(t, "revoked"),
	}
}

func TestMessageRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := message{
			node:   rapid.StringMatching(`[a-z0-9]{1,64}`).Draw(t, "node"),
			number: rapid.Uint64Min(1).Draw(t, "number"),
			kind:   rapid.SampledFrom([]kind{kindChanges, kindAlive, kindLost, kindBye}).Draw(t, "kind"),
		}
		if m.kind == kindChanges {
			m.changes = rapid.SliceOfN(rapid.Custom(anyChange), 1, maxChanges).Draw(t, "changes")
		}
		text := m.encode()
		if len(text) > maxMessage {
			t.Fatalf("%d bytes, and %d are taken", len(text), maxMessage)
		}
		got, err := decode(text)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("%+v, %v from %q", got, err, text)
		}
	})
}

const (
	id1 = "0198c0de-0000-7000-8000-000000000001"
	id2 = "0198c0de-0000-7000-8000-000000000002"
)

func TestMessageRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"":                          errGarbage,
		"hello":                     errGarbage,
		"llm-proxy/2 n 1 x y":       errNewerFormat,
		"llm-proxy/":                errNewerFormat,
		"llm-proxy/1":               errGarbage,
		"llm-proxy/1 n 1":           errGarbage,
		"llm-proxy/1 n 1 word":      errGarbage,
		"llm-proxy/1  1 alive":      errGarbage,
		"llm-proxy/1 n -1 alive":    errGarbage,
		"llm-proxy/1 n 1 alive\n":   errGarbage,
		"llm-proxy/1 n 1 changes":   errGarbage,
		"llm-proxy/1 n 1 changes\n": errGarbage,
		"llm-proxy/1 n 0 changes\n1 " + id1 + " 1 true":                                        errGarbage,
		"llm-proxy/1 n 1 changes\n0 " + id1 + " 1 true":                                        errGarbage,
		"llm-proxy/1 n 1 changes\n4 " + id1 + " 1 true":                                        errGarbage,
		"llm-proxy/1 n 1 changes\n1 " + id1 + " 0 true":                                        errGarbage,
		"llm-proxy/1 n 1 changes\n1 " + id1 + " 1 yes":                                         errGarbage,
		"llm-proxy/1 n 1 changes\n1 " + id1 + " 1 true\n":                                      errGarbage,
		"llm-proxy/1 n 1 changes\n1 mine 1 true":                                               errGarbage,
		"llm-proxy/1 " + strings.Repeat("n", maxNode+1) + " 1 alive":                           errGarbage,
		"llm-proxy/1 n 1 changes" + strings.Repeat("\n1 "+id1+" 1 true", maxChanges+1):         errGarbage,
		"llm-proxy/1 n 1 changes\n1 " + id1 + " " + strings.Repeat("0", maxMessage) + "1 true": errGarbage,
	} {
		if m, err := decode(text); !errors.Is(err, want) {
			t.Errorf("%.60q: %+v, %v", text, m, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("llm-proxy/1 n 1 alive")
	f.Add("llm-proxy/1 n 7 changes\n1 " + id1 + " 1 true\n2 " + id2 + " 9 false")
	f.Add("llm-proxy/9 ?")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := decode(text)
		if err != nil {
			return
		}
		again, err := decode(m.encode())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v becomes %+v, %v", m, again, err)
		}
	})
}

func TestVersions(t *testing.T) {
	t.Parallel()
	var v versions
	id := uuid.FromStringOrNil(id1)
	for i, tc := range []struct {
		kind    token.ChangeKind
		version int64
		want    how
	}{
		{token.TokenChanged, 5, fresh}, {token.TokenChanged, 5, same}, {token.TokenChanged, 4, late}, {token.TokenChanged, 6, fresh},
		{token.ProjectChanged, 5, fresh}, {token.TokenChanged, 6, same},
	} {
		if got := v.note(token.Change{Kind: tc.kind, ID: id, Version: tc.version}); got != tc.want {
			t.Errorf("%d: %v, want %v", i, got, tc.want)
		}
	}
	for i := range 3 * maxVersions {
		v.note(token.Change{Kind: token.TokenChanged, ID: uuid.NewV5(id, string(rune(i))), Version: 1})
	}
	if n := len(v.now) + len(v.old); n > 2*maxVersions {
		t.Errorf("%d versions are remembered", n)
	}
}

func TestChannel(t *testing.T) {
	t.Parallel()
	a, b := Channel("p:", []byte("a")), Channel("p:", []byte("b"))
	if a == b || !strings.HasPrefix(a, "p:changes:") || a != Channel("p:", []byte("a")) {
		t.Errorf("%s and %s", a, b)
	}
}
