package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// golden is a token that was put together by hand: the format may not drift,
// since tokens outlive releases.
const (
	golden     = "sk-wt-AZRu8SoAeryN7wEjRWeJqwAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh84biOIJ"
	goldenID   = "01946ef1-2a00-7abc-8def-0123456789ab"
	goldenHash = "2019849e14a90c4c7c7d3b52c1ddc06e6c7671c1a8ae02ab5e40cbc3d9c9aff9" // pepper: 32 times 7
)

var goldenPepper = bytes.Repeat([]byte{7}, token.PepperSize)

// assemble makes a token's text, with a right checksum, of any 16 and 32 bytes.
func assemble(id, random []byte) string {
	return sum(token.Prefix + base64.RawURLEncoding.EncodeToString(id) + base64.RawURLEncoding.EncodeToString(random))
}

// sum appends the checksum of text.
func sum(text string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	n, tail := crc32.ChecksumIEEE([]byte(text)), ""
	for range 6 {
		tail = string(digits[n%62]) + tail
		n /= 62
	}
	return text + tail
}

func mint(t testing.TB, issued time.Time) (string, token.Secret) {
	t.Helper()
	text, s, err := token.Mint(issued)
	if err != nil {
		t.Fatalf("Mint: %v", err)
	}
	return text, s
}

func TestGoldenToken(t *testing.T) {
	s, err := token.Parse(golden)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	if s.ID.String() != goldenID {
		t.Errorf("id = %s, want %s", s.ID, goldenID)
	}
	if want := time.UnixMilli(1737028086272).UTC(); !s.IssuedAt().Equal(want) || s.IssuedAt().Location() != time.UTC {
		t.Errorf("issued at %v, want %v", s.IssuedAt(), want)
	}
	if sum := s.Hash(goldenPepper); hex.EncodeToString(sum[:]) != goldenHash {
		t.Errorf("hash = %x, want %s", sum, goldenHash)
	}
}

func TestMintParseRoundTrip(t *testing.T) {
	seen := make(map[string]bool)
	rapid.Check(t, func(t *rapid.T) {
		issued := time.UnixMilli(rapid.Int64Range(0, 1<<47).Draw(t, "ms"))
		text, s, err := token.Mint(issued)
		if err != nil {
			t.Fatalf("Mint: %v", err)
		}
		if len(text) != token.Length || !strings.HasPrefix(text, token.Prefix) {
			t.Fatalf("%q is not of the wire form", text)
		}
		parsed, err := token.Parse(text)
		if err != nil || parsed != s {
			t.Fatalf("Parse(%q) = %v, %v; want what was minted, %v", text, parsed, err, s)
		}
		// The id's counter may run ahead by a millisecond when one is used up.
		if d := parsed.IssuedAt().Sub(issued); d < 0 || d > time.Second {
			t.Fatalf("issued at %v, want %v", parsed.IssuedAt(), issued)
		}
		if seen[text] {
			t.Fatalf("%q was minted twice", text)
		}
		seen[text] = true
	})
}

func TestEverySingleCharacterChangeIsRefused(t *testing.T) {
	text, _ := mint(t, time.Now())
	for i := range len(text) {
		for c := range 256 {
			if byte(c) == text[i] {
				continue
			}
			changed := text[:i] + string([]byte{byte(c)}) + text[i+1:]
			if _, err := token.Parse(changed); !errors.Is(err, token.ErrMalformed) {
				t.Fatalf("Parse of a token with byte %d changed from %q to %q: %v, want ErrMalformed", i, text[i], byte(c), err)
			}
		}
	}
}

func TestEveryCutSwapAndInsertionIsRefused(t *testing.T) {
	text, _ := mint(t, time.Now())
	for i := range len(text) {
		broken := map[string]string{
			"cut to":        text[:i],
			"deleted":       text[:i] + text[i+1:],
			"doubled":       text[:i+1] + text[i:],
			"space before":  text[:i] + " " + text[i:],
			"newline after": text[:i+1] + "\n" + text[i+1:],
		}
		if i > 0 && text[i] != text[i-1] {
			broken["swapped"] = text[:i-1] + text[i:i+1] + text[i-1:i] + text[i+1:]
		}
		for what, b := range broken {
			if _, err := token.Parse(b); !errors.Is(err, token.ErrMalformed) {
				t.Errorf("%s at %d: %v, want ErrMalformed", what, i, err)
			}
		}
	}
}

func TestMalformedCorpus(t *testing.T) {
	id, random := uuid.Must(uuid.NewV7()), make([]byte, 32)
	v4, v1 := uuid.Must(uuid.NewV4()), uuid.Must(uuid.NewV1())
	wrongVariant := id
	wrongVariant[8] = wrongVariant[8]&0x3f | 0xc0
	valid := assemble(id[:], random)
	body := valid[:token.Length-6]
	for _, tc := range []struct{ name, text string }{
		{"empty", ""},
		{"prefix only", token.Prefix},
		{"SQL", "' OR 1=1; DROP TABLE tokens; --"},
		{"SQL of the right length", sum(token.Prefix + fmt.Sprintf("%-65s", "' OR 1=1--"))},
		{"NUL", strings.Repeat("\x00", token.Length)},
		{"NUL appended", valid + "\x00"},
		{"NUL inside, checksum right", sum(body[:40] + "\x00" + body[41:])},
		{"CRLF appended", valid + "\r\n"},
		{"CRLF inside, checksum right", sum(body[:40] + "\r\n" + body[42:])},
		{"line feeds inside the id, checksum right", sum(body[:10] + "\n\n\n\n" + body[14:])},
		{"1 MB", strings.Repeat("A", 1<<20)},
		{"1 MB with the prefix", token.Prefix + strings.Repeat("A", 1<<20)},
		{"a token 10,000 times", strings.Repeat(valid, 10_000)},
		{"unicode", strings.Repeat("ключ", 20)},
		{"unicode of the right length, checksum right", sum(body[:40] + "é" + body[42:])},
		{"fullwidth letters", strings.ReplaceAll(valid, "s", "ｓ")},
		{"invalid UTF-8", token.Prefix + strings.Repeat("\xff", token.Length-len(token.Prefix))},
		{"upper-case prefix", "SK-WT-" + valid[len(token.Prefix):]},
		{"another prefix, checksum right", sum("sk-wx-" + body[len(token.Prefix):])},
		{"OpenAI key", "sk-proj-" + strings.Repeat("a", 60)},
		{"standard base64, checksum right", sum(body[:40] + "+/" + body[42:])},
		{"padding, checksum right", sum(body[:len(body)-1] + "=")},
		{"unused bits set in the id, checksum right", sum(token.Prefix + setUnusedBits(body[6:28]) + body[28:])},
		{"unused bits set in the secret, checksum right", sum(body[:28] + setUnusedBits(body[28:]))},
		{"UUIDv4", assemble(v4[:], random)},
		{"UUIDv1", assemble(v1[:], random)},
		{"wrong variant", assemble(wrongVariant[:], random)},
		{"nil UUID", assemble(make([]byte, 16), random)},
		{"surrounding spaces", " " + valid + " "},
		{"quoted", `"` + valid + `"`},
		{"with its scheme", "Bearer " + valid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if s, err := token.Parse(tc.text); !errors.Is(err, token.ErrMalformed) || s != (token.Secret{}) {
				t.Fatalf("Parse = %v, %v; want nothing and ErrMalformed", s, err)
			}
		})
	}
	if _, err := token.Parse(valid); err != nil {
		t.Fatalf("the token that the corpus is made of does not parse: %v", err)
	}
}

// setUnusedBits changes the last character to one that decodes to the same bytes.
func setUnusedBits(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, text[len(text)-1])
	return text[:len(text)-1] + alphabet[i+1:i+2]
}

func TestHashAndMatches(t *testing.T) {
	_, s := mint(t, time.Now())
	_, other := mint(t, time.Now())
	pepper, pepper2 := bytes.Repeat([]byte{1}, token.PepperSize), bytes.Repeat([]byte{2}, token.PepperSize)
	hash, foreign := s.Hash(pepper), other.Hash(pepper)
	for _, tc := range []struct {
		name   string
		scheme string
		hash   []byte
		pepper []byte
		want   bool
	}{
		{"its own", token.SchemeHMAC, hash[:], pepper, true},
		{"another token's", token.SchemeHMAC, foreign[:], pepper, false},
		{"another pepper", token.SchemeHMAC, hash[:], pepper2, false},
		{"unknown scheme", "sha256", hash[:], pepper, false},
		{"no scheme", "", hash[:], pepper, false},
		{"truncated", token.SchemeHMAC, hash[:31], pepper, false},
		{"extended", token.SchemeHMAC, append(hash[:], 0), pepper, false},
		{"empty", token.SchemeHMAC, nil, pepper, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := s.Matches(tc.scheme, tc.hash, tc.pepper); got != tc.want {
				t.Fatalf("Matches = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestSecretNeverPrintsItself(t *testing.T) {
	s, err := token.Parse(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{s, &s, []token.Secret{s}, map[string]token.Secret{"a": s}, struct{ S token.Secret }{s}} {
			out := fmt.Sprintf(verb, value)
			for _, leak := range []string{"10 11 12 13", "0xa, 0xb, 0xc", "0a0b0c0d", golden[28:60]} {
				if strings.Contains(out, leak) {
					t.Errorf("%s of %T prints the secret: %s", verb, value, out)
				}
			}
		}
	}
	out, err := json.Marshal(s)
	if err != nil || string(out) != `{"ID":"`+goldenID+`"}` {
		t.Errorf("JSON = %s, %v; want the id alone", out, err)
	}
}

// TestMintAfterClockStep: a clock that was ahead for a moment does not date the
// tokens that follow.
func TestMintAfterClockStep(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, at := range []time.Time{now, now.Add(time.Hour), now} {
		_, s, err := token.Mint(at)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.IssuedAt(); !got.Equal(at) {
			t.Errorf("issued at %s, want %s", got, at)
		}
	}
}
