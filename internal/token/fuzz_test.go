package token_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// FuzzParse holds that whatever parses is exactly what Mint would have written:
// a token has one text.
func FuzzParse(f *testing.F) {
	text, _ := mint(f, time.UnixMilli(1737028086272))
	for _, seed := range []string{
		golden, text, "", token.Prefix, strings.Repeat("A", token.Length), golden + "\n", " " + golden,
		goldenLegacy, token.LegacyPrefix, golden[:token.LegacyLength], "sk-" + strings.Repeat("A", 48),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := token.Parse(text)
		if err != nil {
			if !errors.Is(err, token.ErrMalformed) || s != (token.Secret{}) {
				t.Fatalf("Parse(%q) = %v, %v; want nothing and ErrMalformed", text, s, err)
			}
			return
		}
		if s.Legacy() {
			raw, err := base64.RawURLEncoding.DecodeString(text[3:])
			if again := "sk-" + base64.RawURLEncoding.EncodeToString(raw); err != nil || again != text || len(raw) != 16 {
				t.Fatalf("%q parses as a legacy token, but is written %q (%v)", text, again, err)
			}
			return
		}
		random, err := base64.RawURLEncoding.DecodeString(text[28:71])
		if err != nil {
			t.Fatalf("%q parses, but its secret is not base64url: %v", text, err)
		}
		if again := assemble(s.ID[:], random); again != text {
			t.Fatalf("%q parses, but is written %q", text, again)
		}
	})
}

// FuzzParseLegacy holds that a text and its hash are the same token.
func FuzzParseLegacy(f *testing.F) {
	for _, seed := range []string{goldenLegacy, goldenLegacySum, strings.ToUpper(goldenLegacySum), "", golden, "sk-wt-AAAAAAAAAAAAAAAAAAA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, stored string) {
		s, err := token.ParseLegacy(stored)
		if err != nil {
			if !errors.Is(err, token.ErrMalformed) || s != (token.Secret{}) {
				t.Fatalf("ParseLegacy(%q) = %v, %v; want nothing and ErrMalformed", stored, s, err)
			}
			return
		}
		if len(stored) == token.LegacyLength {
			sum := sha256.Sum256([]byte(stored))
			if other, err := token.ParseLegacy(hex.EncodeToString(sum[:])); err != nil || other != s {
				t.Fatalf("%q and its hash are two tokens: %v", stored, err)
			}
			if other, err := token.Parse(stored); err != nil || other != s {
				t.Fatalf("%q is not the token that a client sends: %v", stored, err)
			}
		} else if len(stored) != 64 || stored != strings.ToLower(stored) {
			t.Fatalf("%q parses", stored)
		}
	})
}
