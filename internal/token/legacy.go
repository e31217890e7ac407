package token

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/gofrs/uuid/v5"
)

// The predecessor's tokens, sofatutor/llm-proxy's, go on working once they were
// imported:
//
//	sk-  <22: base64url of 16 bytes>
//
// They tell neither an id nor a time of issue, and have no checksum. Their row is
// found by an id that is made from their text under the pepper, so that neither
// the id, which is public, nor the stored hash helps anybody to guess the token.
const (
	LegacyPrefix = "sk-"
	LegacyLength = len(LegacyPrefix) + idChars // 25

	// SchemeLegacy names HMAC-SHA-256 under the pepper over a label and the SHA-256
	// of a legacy token's text. The SHA-256, since the predecessor kept no more of
	// many tokens.
	SchemeLegacy = "hmac-sha256-legacy"

	// With the 32 bytes behind them these are longer than the 48 of SchemeHMAC, and
	// of two lengths.
	legacyIDLabel   = "predecessor token id"
	legacyHashLabel = "predecessor token hash"
)

// parseLegacy reads the text of a legacy token. Texts that begin as our own
// tokens do are cut tokens of ours: the predecessor would issue such in 8700.
func parseLegacy(text string) (Secret, error) {
	if !strings.HasPrefix(text, LegacyPrefix) || strings.HasPrefix(text, Prefix) {
		return Secret{}, ErrMalformed
	}
	var body [LegacyLength]byte
	copy(body[:], text)
	var raw [16]byte
	if n, err := strict.Decode(raw[:], body[len(LegacyPrefix):]); err != nil || n != len(raw) {
		return Secret{}, ErrMalformed
	}
	return Secret{random: sha256.Sum256(body[:]), legacy: true}, nil
}

// ParseLegacy reads what the predecessor's database holds of a token: its text,
// or the SHA-256 of that in hex.
func ParseLegacy(stored string) (Secret, error) {
	switch len(stored) {
	case LegacyLength:
		return parseLegacy(stored)
	case 2 * sha256.Size:
		s := Secret{legacy: true}
		if _, err := hex.Decode(s.random[:], []byte(stored)); err != nil || stored != strings.ToLower(stored) {
			return Secret{}, ErrMalformed
		}
		return s, nil
	}
	return Secret{}, ErrMalformed
}

// Legacy reports whether the token is the predecessor's.
func (s Secret) Legacy() bool { return s.legacy }

// RowID is the id of the token's row: the one in its text, or for a legacy token
// a UUIDv8 (RFC 9562, 5.8) made from the text under the pepper.
func (s Secret) RowID(pepper []byte) uuid.UUID {
	if !s.legacy {
		return s.ID
	}
	return idOf(s.sum(forID, pepper))
}

func idOf(sum [HashSize]byte) uuid.UUID {
	id := uuid.UUID(sum[:uuid.Size])
	id.SetVersion(uuid.V8)
	id.SetVariant(uuid.VariantRFC9562)
	return id
}
