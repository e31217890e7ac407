package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
)

// KeySize is the length of an encryption key in bytes (AES-256).
const KeySize = 32

const (
	envelopeVersion = 1
	keyIDSize       = 4
	nonceSize       = 12
	headerSize      = 1 + keyIDSize + nonceSize
)

// ErrOpen says that a sealed value was truncated, altered, or sealed for another
// place (its additional data differs).
var ErrOpen = errors.New("sealed value does not open: it was altered or belongs to another row")

// UnknownKeyError says that a value was sealed under an encryption key that is
// not configured.
type UnknownKeyError struct{ KeyID string }

func (e *UnknownKeyError) Error() string {
	return "sealed under encryption key " + e.KeyID + ", which is not configured: add that key to encryption_key after the current one"
}

// Keyring seals values under its first key and opens those of all its keys. An
// envelope is version (1 byte), key id (4), nonce (12), then AES-256-GCM
// ciphertext and tag (NIST SP 800-38D), so that old keys can be retired row by row.
// It is safe for concurrent use.
type Keyring struct {
	keys atomic.Pointer[[]ringKey] // replaced as a whole, see Replace
}

type ringKey struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

// NewKeyring makes a keyring of one or more keys of [KeySize] bytes; the first
// one seals.
func NewKeyring(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("no encryption key given")
	}
	var ring []ringKey
	for i, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("encryption key %d has %d bytes, expected %d", i+1, len(key), KeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("encryption key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("encryption key %d: %w", i+1, err)
		}
		ring = append(ring, ringKey{id: keyID(key), aead: aead})
	}
	k := new(Keyring)
	k.keys.Store(&ring)
	return k, nil
}

// ParseKey decodes an encryption key as operators write it: base64, standard or
// URL alphabet, with or without padding, of exactly [KeySize] bytes. The error
// never holds the text.
func ParseKey(text string) ([]byte, error) {
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := enc.Strict().DecodeString(text); err == nil {
			if len(key) != KeySize {
				return nil, fmt.Errorf("decodes to %d bytes, expected base64 of %d bytes (make one with: caddy llm-proxy keygen)", len(key), KeySize)
			}
			return key, nil
		}
	}
	return nil, fmt.Errorf("is not base64 of %d bytes (make one with: caddy llm-proxy keygen)", KeySize)
}

// NewKey makes a random encryption key in the form that [ParseKey] reads.
func NewKey() string {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails since Go 1.24
	return base64.StdEncoding.EncodeToString(key)
}

// KeyID is the id of the key that [Keyring.Seal] uses, as eight hex digits.
func (k *Keyring) KeyID() string { return k.KeyIDs()[0] }

// Fingerprint identifies all the keys of the ring without revealing them.
func (k *Keyring) Fingerprint() string {
	h := sha256.New()
	for _, key := range *k.keys.Load() {
		h.Write(key.id[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Seal encrypts plaintext for the place that aad names, such as a table, a
// column and a row id: only [Keyring.Open] with the same aad opens it.
func (k *Keyring) Seal(aad string, plaintext []byte) []byte {
	key := (*k.keys.Load())[0]
	out := make([]byte, headerSize, headerSize+len(plaintext)+key.aead.Overhead())
	out[0] = envelopeVersion
	copy(out[1:], key.id[:])
	_, _ = rand.Read(out[1+keyIDSize : headerSize])
	return key.aead.Seal(out, out[1+keyIDSize:headerSize], plaintext, []byte(aad))
}

// Open decrypts an envelope made by [Keyring.Seal] with the same aad. It returns
// [ErrOpen] or an [*UnknownKeyError].
func (k *Keyring) Open(aad string, envelope []byte) ([]byte, error) {
	plain, _, err := k.open(aad, envelope)
	return plain, err
}

// open also tells which key it was.
func (k *Keyring) open(aad string, envelope []byte) (plain []byte, key int, err error) {
	if len(envelope) < headerSize || envelope[0] != envelopeVersion {
		return nil, 0, ErrOpen
	}
	id := [keyIDSize]byte(envelope[1 : 1+keyIDSize])
	known := false
	for i, key := range *k.keys.Load() { // an id is short: two keys may share one
		if key.id != id {
			continue
		}
		known = true
		plain, err := key.aead.Open(nil, envelope[1+keyIDSize:headerSize], envelope[headerSize:], []byte(aad))
		if err == nil {
			return plain, i, nil
		}
	}
	if known {
		return nil, 0, ErrOpen
	}
	return nil, 0, &UnknownKeyError{KeyID: hex.EncodeToString(id[:])}
}

// EnvelopeKeyID tells under which key an envelope was sealed, or "" when it is
// not an envelope.
func EnvelopeKeyID(envelope []byte) string {
	if len(envelope) < headerSize || envelope[0] != envelopeVersion {
		return ""
	}
	return hex.EncodeToString(envelope[1 : 1+keyIDSize])
}

func keyID(key []byte) [keyIDSize]byte {
	sum := sha256.Sum256(append([]byte("llm-proxy encryption key id\x00"), key...))
	return [keyIDSize]byte(sum[:])
}
