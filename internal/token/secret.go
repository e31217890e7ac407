package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"
)

// The wire form of a token:
//
//	sk-wt-  <22: base64url of the UUIDv7>  <43: base64url of 32 random bytes>  <6: checksum>
//
// The checksum is the CRC-32 (IEEE) of everything before it in base62
// (0-9A-Za-z), six digits with leading zeros, so that a mistyped or cut token is refused
// without a look-up and secret scanners can tell a real one from a look-alike.
const (
	Prefix     = "sk-wt-"
	idChars    = 22
	secretLen  = 32
	randChars  = 43
	sumChars   = 6
	Length     = len(Prefix) + idChars + randChars + sumChars // 77
	PepperSize = 32
	HashSize   = sha256.Size

	// SchemeHMAC names HMAC-SHA-256 under the pepper over the token's 48 bytes, id
	// and secret: a hash copied to another row matches nothing.
	SchemeHMAC = "hmac-sha256"

	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// ErrMalformed says that a text is not a token: wrong prefix, length, alphabet,
// checksum, or an id that is not a UUIDv7.
var ErrMalformed = errors.New("malformed token")

// Secret is a parsed token: its public id and its random bytes. A legacy token
// has no id in its text: see [Secret.RowID].
type Secret struct {
	ID     uuid.UUID
	random [secretLen]byte // of a legacy token the SHA-256 of its text
	legacy bool
}

// Mint makes a new token whose id carries the time of issue. It returns the
// text, which is shown once, and its parsed form.
func Mint(issued time.Time) (string, Secret, error) {
	id, err := newID(issued)
	if err != nil {
		return "", Secret{}, err
	}
	s := Secret{ID: id}
	if _, err := rand.Read(s.random[:]); err != nil {
		return "", Secret{}, err
	}
	text := make([]byte, 0, Length)
	text = append(text, Prefix...)
	text = base64.RawURLEncoding.AppendEncode(text, id[:])
	text = base64.RawURLEncoding.AppendEncode(text, s.random[:])
	sum := checksum(string(text))
	return string(append(text, sum[:]...)), s, nil
}

// newID makes a UUIDv7 (RFC 9562, 5.7) of a time and random bits. A generator
// that keeps its ids in order would go on dating them in the future after the
// clock was wrong for a moment, and such tokens are refused.
func newID(at time.Time) (uuid.UUID, error) {
	var id uuid.UUID
	if _, err := rand.Read(id[6:]); err != nil {
		return id, err
	}
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id.SetVersion(uuid.V7)
	id.SetVariant(uuid.VariantRFC9562)
	return id, nil
}

// Parse reads a token's text. It allocates nothing and returns [ErrMalformed] or nil.
func Parse(text string) (Secret, error) {
	if len(text) == LegacyLength {
		return parseLegacy(text)
	}
	if len(text) != Length || !strings.HasPrefix(text, Prefix) {
		return Secret{}, ErrMalformed
	}
	const bodyLen = Length - sumChars
	if sum := checksum(text[:bodyLen]); string(sum[:]) != text[bodyLen:] {
		return Secret{}, ErrMalformed
	}
	var body [bodyLen]byte
	copy(body[:], text)
	var s Secret
	if n, err := strict.Decode(s.ID[:], body[len(Prefix):len(Prefix)+idChars]); err != nil || n != len(s.ID) {
		return Secret{}, ErrMalformed
	}
	if n, err := strict.Decode(s.random[:], body[len(Prefix)+idChars:]); err != nil || n != secretLen {
		return Secret{}, ErrMalformed
	}
	if s.ID.Version() != uuid.V7 || s.ID.Variant() != uuid.VariantRFC9562 {
		return Secret{}, ErrMalformed
	}
	return s, nil
}

// IssuedAt is the time of issue in the token's id, to the millisecond, UTC. A
// legacy token does not tell it: that is the zero time.
func (s Secret) IssuedAt() time.Time {
	if s.legacy {
		return time.Time{}
	}
	return IssuedAt(s.ID)
}

// IssuedAt reads the millisecond timestamp of a UUIDv7 (RFC 9562, 5.7).
func IssuedAt(id uuid.UUID) time.Time {
	ms := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
	return time.UnixMilli(ms).UTC()
}

// Hash is what is stored of a token: HMAC-SHA-256 under the installation's
// pepper, as [Secret.Scheme] says.
func (s Secret) Hash(pepper []byte) [HashSize]byte { return s.sum(forHash, pepper) }

// Scheme names how the token is hashed.
func (s Secret) Scheme() string {
	if s.legacy {
		return SchemeLegacy
	}
	return SchemeHMAC
}

// Matches compares the token with a stored hash in constant time. An unknown
// scheme matches nothing, nor does that of tokens of another form.
func (s Secret) Matches(scheme string, hash, pepper []byte) bool {
	if scheme != s.Scheme() {
		return false
	}
	sum := s.Hash(pepper)
	return subtle.ConstantTimeCompare(sum[:], hash) == 1
}

func (s Secret) sum(p purpose, pepper []byte) [HashSize]byte {
	mac := hmac.New(sha256.New, pepper)
	var buf [maxMessage]byte
	mac.Write(s.appendMessage(buf[:0], p))
	return [HashSize]byte(mac.Sum(nil))
}

// purpose is what an HMAC under the pepper is for. Messages of different purpose
// and form differ in length, so that no sum stands in for another.
type purpose uint8

const (
	forHash purpose = iota
	forID           // of a legacy token
)

// maxMessage is the size of the longest message, and more than that of a sum.
const maxMessage = 64

func (s *Secret) appendMessage(dst []byte, p purpose) []byte {
	switch {
	case !s.legacy:
		dst = append(dst, s.ID[:]...)
	case p == forID:
		dst = append(dst, legacyIDLabel...)
	default:
		dst = append(dst, legacyHashLabel...)
	}
	return append(dst, s.random[:]...)
}

// String keeps the secret out of logs.
func (s Secret) String() string {
	if s.legacy {
		return "legacy token"
	}
	return "token " + s.ID.String()
}

// Format implements [fmt.Formatter]: no verb prints the random bytes.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// strict refuses encodings whose unused bits are set: a token has one text.
var strict = base64.RawURLEncoding.Strict()

// checksum walks the table itself: [crc32.ChecksumIEEE] takes bytes, and would
// have them copied to the heap.
func checksum(text string) (digits [sumChars]byte) {
	sum := ^uint32(0)
	for i := range len(text) {
		sum = crc32.IEEETable[byte(sum)^text[i]] ^ sum>>8
	}
	sum = ^sum
	for i := sumChars - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return digits
}
