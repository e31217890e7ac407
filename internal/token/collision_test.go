package token_test

import (
	"bytes"
	"hash/crc32"
	"math/bits"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func TestNearCollisionsAreOtherTokens(t *testing.T) {
	pepper := make([]byte, token.PepperSize)
	for range 250 {
		text, s := mint(t, time.Now())
		hash := s.Hash(pepper)
		for what, near := range nearCollisions(t, text) {
			other, err := token.Parse(near)
			if err != nil {
				t.Fatalf("%s: %q does not parse: %v", what, near, err)
			}
			if other == s || other.Matches(token.SchemeHMAC, hash[:], pepper) {
				t.Fatalf("%s: %q passes for %q", what, near, text)
			}
		}
	}
}

// nearCollisions are well-formed tokens that share much of text.
func nearCollisions(t testing.TB, text string) map[string]string {
	out := make(map[string]string)
	for what, same := range map[string]int{"first 20": 20, "first 32": 32, "first 40": 40} {
		body := []byte(text[:token.Length-6])
		for i := same; i < len(body); i++ {
			body[i] = flip(body[i]) // the UUID's version and variant come before
		}
		out[what] = sum(string(body))
	}
	other, _ := mint(t, time.Now())
	out["last 8"] = withTail(t, other[:28], text[token.Length-8:])
	return out
}

// flip changes a character to another whose low bits, which may be unused, are clear.
func flip(c byte) byte {
	if c == 'A' {
		return 'Q'
	}
	return 'A'
}

// withTail makes a token that begins with head and ends with tail, checksum
// included. CRC-32 is linear: each of the characters between is A or C, which
// differ in one bit, and elimination finds the choice that gives the checksum.
func withTail(t testing.TB, head, tail string) string {
	t.Helper()
	body := append([]byte(head), bytes.Repeat([]byte{'A'}, token.Length-8-len(head))...)
	body = append(body, tail[:2]...)
	base := crc32.ChecksumIEEE(body)
	var effect [32]uint32 // by highest bit: what toggling the positions of choice does
	var choice [32]uint64
	for i := len(head); i < len(body)-2; i++ {
		body[i] ^= 'A' ^ 'C'
		e, c := crc32.ChecksumIEEE(body)^base, uint64(1)<<(i-len(head))
		body[i] ^= 'A' ^ 'C'
		for e != 0 {
			top := bits.Len32(e) - 1
			if effect[top] == 0 {
				effect[top], choice[top] = e, c
				break
			}
			e, c = e^effect[top], c^choice[top]
		}
	}
	want, toggle := base^checksum(tail[2:]), uint64(0)
	for want != 0 {
		top := bits.Len32(want) - 1
		if effect[top] == 0 {
			t.Fatal("the positions do not span the checksum")
		}
		want, toggle = want^effect[top], toggle^choice[top]
	}
	for i := range len(body) - 2 - len(head) {
		if toggle>>i&1 == 1 {
			body[len(head)+i] ^= 'A' ^ 'C'
		}
	}
	text := sum(string(body))
	if text[len(text)-len(tail):] != tail {
		t.Fatalf("%q does not end in %q", text, tail)
	}
	return text
}

// checksum reads the six digits that sum writes.
func checksum(digits string) uint32 {
	var n uint64
	for _, c := range []byte(digits) {
		switch {
		case c <= '9':
			n = n*62 + uint64(c-'0')
		case c <= 'Z':
			n = n*62 + uint64(c-'A') + 10
		default:
			n = n*62 + uint64(c-'a') + 36
		}
	}
	return uint32(n)
}
