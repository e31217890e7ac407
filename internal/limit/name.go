package limit

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

// Keys in Redis. What stands in braces decides about the slot in a Redis Cluster.
const (
	prefix   = "llm_proxy:limit:"
	common   = "all"
	epochKey = prefix + "{" + common + "}:epoch"
	nodesKey = prefix + "{" + common + "}:nodes"
)

// tag is what limits have in common that lie in one slot.
func tag(k *Key) string {
	if k.Scope == Token || k.Scope == Project {
		return "p-" + plain(k.Project)
	}
	return common
}

// redisName is the limit's key in Redis.
func redisName(k Key) string {
	var b strings.Builder
	b.WriteString(prefix + "{")
	b.WriteString(tag(&k))
	b.WriteString("}:" + k.Scope.String() + ":")
	b.WriteString(plain(k.ID))
	b.WriteString(":" + k.Kind.String())
	if k.Kind != Concurrency {
		b.WriteString(":" + strconv.FormatInt(k.Window.Microseconds(), 10))
	}
	return b.String()
}

// plain is an id that means nothing else in a key. Our ids are plain themselves.
func plain(id string) string {
	ok := len(id) <= 64
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '.' || c == ':' || c == '_' || c == '/'
	}
	if ok {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "~" + hex.EncodeToString(sum[:16])
}

// Network is the ID of a client's address, for limits of [IP]: IPv4 as it is, of
// IPv6 the first 64 bits, since one household or server has all of the rest.
func Network(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
