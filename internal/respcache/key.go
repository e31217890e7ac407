package respcache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
)

// Key names what is kept: the primary key a request's identity, the variant's key
// one of the responses to it.
type Key [sha256.Size]byte

// String is the key in hex. It is not for clients: a key tells whoever can guess a
// prompt that it was asked.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

var errKey = errors.New("expected the 64 hexadecimal digits of a cache key")

// ParseKey reads what [Key.String] wrote.
func ParseKey(text string) (k Key, err error) {
	if len(text) != hex.EncodedLen(len(k)) {
		return k, errKey
	}
	if _, err := hex.Decode(k[:], []byte(text)); err != nil {
		return Key{}, errKey
	}
	return k, nil
}

// ScopeKind says who shares a response.
type ScopeKind uint8

// Kinds of scope. The zero one is none of them, so that a forgotten scope shares
// nothing with any other.
const (
	Shared  ScopeKind = iota + 1 // everybody; ID is empty
	Project                      // the tokens of a project, whose id is ID
	Token                        // one token, whose id is ID
)

// Scope is a partition of the cache: nothing is ever found from another one.
type Scope struct {
	Kind ScopeKind
	ID   string
}

// Identity is what makes two requests the same one, but for what the responses
// vary on.
type Identity struct {
	Provider string // as configured, with what else tells upstreams apart
	Method   string // HEAD counts as GET
	Path     string // canonical
	Query    string // as sent, less credentials
	Scope    Scope
	Fields   []byte // of the header that every response depends on; see httpcache.Implied
	Body     Body
}

// keyDomain keeps keys from other digests of the same text, and from those of
// another encoding.
const keyDomain = "llm-proxy cache key 1\x00"

// Key is the primary key.
func (i *Identity) Key() Key {
	var room [512]byte
	return sha256.Sum256(i.encode(room[:0]))
}

// encode is injective: every part has its length before it, so that no text can
// move from one part into the next.
func (i *Identity) encode(dst []byte) []byte {
	method := i.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	dst = append(dst, keyDomain...)
	for _, part := range [...]string{i.Provider, method, i.Path, i.Query} {
		dst = appendPart(dst, part)
	}
	dst = append(dst, byte(i.Scope.Kind))
	dst = appendPart(dst, i.Scope.ID)
	dst = binary.AppendUvarint(dst, uint64(len(i.Fields)))
	dst = append(dst, i.Fields...)
	dst = append(dst, byte(i.Body.kind))
	return append(dst, i.Body.sum[:]...)
}

func appendPart(dst []byte, part string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(part))), part...)
}
