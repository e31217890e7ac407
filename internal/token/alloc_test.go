//go:build !race

package token_test

import (
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// The race detector makes pools forget, so these ceilings hold without it.

func TestParseAllocatesNothing(t *testing.T) {
	text, _ := mint(t, time.Now())
	for name, text := range map[string]string{"valid": text, "malformed": text[:token.Length-1] + "!", "short": "sk-", "legacy": goldenLegacy} {
		if n := testing.AllocsPerRun(1000, func() { _, _ = token.Parse(text) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func TestAuthenticateOfAKnownTokenAllocatesNothing(t *testing.T) {
	s := newSource()
	text, id := s.addToken(t, s.addProject())
	a := newAuthority(t, s, token.Options{TTL: time.Hour})
	wantAuth(t, a, text, nil)
	wrong := assemble(id[:], make([]byte, 32))
	legacy := s.addLegacy(t, s.addProject(), goldenLegacy)
	wantAuth(t, a, legacy, nil)
	unknown := legacyText(0)
	wantAuth(t, a, unknown, token.ErrUnknown)
	ctx := t.Context()
	for name, text := range map[string]string{"right": text, "wrong secret": wrong, "legacy": legacy, "unknown legacy": unknown} {
		if n := testing.AllocsPerRun(1000, func() { _, _ = a.Authenticate(ctx, text) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}
