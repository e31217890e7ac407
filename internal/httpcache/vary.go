package httpcache

import (
	"encoding/binary"
	"net/textproto"
	"slices"
	"strings"
)

// Implied are request fields that providers answer differently for without
// saying so in Vary: they choose the API's version, or the account within the
// credential. They belong into the key of every request:
//
//	key = httpcache.AppendVariant(key, httpcache.Implied, header)
var Implied = []string{
	"Anthropic-Beta", "Anthropic-Version", "Openai-Beta", "Openai-Organization", "Openai-Project", "X-Goog-User-Project",
}

// ParseVary reads the members of Vary: canonical names, sorted, each once. star:
// no other request can be known to match (RFC 9111, 4.1), for there is a * among
// them, or something that is no name.
func ParseVary(lines []string) (names []string, star bool) {
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			member = strings.Trim(member, " \t")
			switch {
			case member == "":
			case member == "*" || !isToken(member):
				return nil, true
			default:
				names = append(names, textproto.CanonicalMIMEHeaderKey(member))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), false
}

// Header looks up fields by their canonical names; an [http.Header] does.
type Header interface {
	Values(name string) []string
}

// AppendVariant appends what a request has in the fields that a response varies
// on. The header is the one sent upstream, less the credential: what the provider
// does not see makes no difference to it. Two requests have the same bytes if and only if they match (RFC 9111, 4.1):
// all names, and all values combined and less the space around commas. Every
// part has its length before it, so that nothing can be taken for something else.
func AppendVariant(dst []byte, vary []string, header Header) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(vary)))
	for _, name := range vary {
		dst = binary.AppendUvarint(dst, uint64(len(name)))
		dst = append(dst, name...)
		values := header.Values(name)
		if len(values) == 0 {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, 1, 0, 0, 0, 0)
		start := len(dst)
		for i, v := range values {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendNormal(dst, v)
		}
		binary.BigEndian.PutUint32(dst[start-4:start], uint32(len(dst)-start))
	}
	return dst
}

// appendNormal appends a field's line less the space around its commas, but for
// those in quotes.
func appendNormal(dst []byte, v string) []byte {
	for {
		end := 0
		for end < len(v) && v[end] != ',' {
			if v[end] != '"' {
				end++
				continue
			}
			n, _ := quotedEnd(v[end:])
			end += n
		}
		dst = append(dst, strings.Trim(v[:end], " \t")...)
		if end == len(v) {
			return dst
		}
		dst = append(dst, ',')
		v = v[end+1:]
	}
}

var credentials = []string{"Api-Key", "Authorization", "Cookie", "X-Api-Key", "X-Goog-Api-Key"}

// namesCredential reports whether a response varies on who asks. Within one
// project's partition it is always the same one.
func namesCredential(vary []string) bool {
	return slices.ContainsFunc(vary, func(name string) bool { return slices.Contains(credentials, name) })
}
