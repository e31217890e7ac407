package respcache

import (
	"crypto/sha256"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// maxVaryNames is how many fields a response may vary on.
const maxVaryNames = 16

const variantDomain = "llm-proxy cache variant 1\x00"

// VariantKey is the key of the response to a request with a header as sent
// upstream, among those that vary on these fields (see [httpcache.ParseVary]).
func VariantKey(primary Key, vary []string, header httpcache.Header) Key {
	var room [512]byte
	b := append(room[:0], variantDomain...)
	b = append(b, primary[:]...)
	return sha256.Sum256(httpcache.AppendVariant(b, vary, header))
}
