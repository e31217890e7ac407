package predecessor

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// sealedPrefix begins what was encrypted: AES-256-GCM without additional data, as
// standard base64 of nonce and ciphertext.
const sealedPrefix = "enc:v1:"

var (
	errNoKey    = errors.New("it is encrypted: give the ENCRYPTION_KEY of the predecessor")
	errWrongKey = errors.New("it does not decrypt: another ENCRYPTION_KEY is needed, or it is damaged")
)

// Opener decrypts under the predecessor's ENCRYPTION_KEY. The zero Opener has no
// key, and reads only what was never encrypted.
type Opener struct{ aead cipher.AEAD }

// NewOpener takes the key as the predecessor does: base64 of 32 bytes.
func NewOpener(key secret.Value) (*Opener, error) {
	raw, err := secret.ParseKey(key.Reveal())
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Opener{aead}, nil
}

// open returns the text that was stored.
func (o *Opener) open(stored string) (secret.Value, error) {
	body, sealed := strings.CutPrefix(stored, sealedPrefix)
	if !sealed {
		return secret.NewValue(stored), nil
	}
	if o == nil || o.aead == nil {
		return secret.Value{}, errNoKey
	}
	raw, err := base64.StdEncoding.DecodeString(body)
	if err != nil || len(raw) < o.aead.NonceSize() {
		return secret.Value{}, errWrongKey
	}
	plain, err := o.aead.Open(nil, raw[:o.aead.NonceSize()], raw[o.aead.NonceSize():], nil)
	if err != nil {
		return secret.Value{}, errWrongKey
	}
	return secret.NewValue(string(plain)), nil
}
