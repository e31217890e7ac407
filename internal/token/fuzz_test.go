package token_test

import (
	"encoding/base64"
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
	for _, seed := range []string{golden, text, "", token.Prefix, strings.Repeat("A", token.Length), golden + "\n", " " + golden} {
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
		random, err := base64.RawURLEncoding.DecodeString(text[28:71])
		if err != nil {
			t.Fatalf("%q parses, but its secret is not base64url: %v", text, err)
		}
		if again := assemble(s.ID[:], random); again != text {
			t.Fatalf("%q parses, but is written %q", text, again)
		}
	})
}
