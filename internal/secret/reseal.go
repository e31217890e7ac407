package secret

import "encoding/hex"

const (
	// PrefixSize is how many bytes at the start of an envelope tell its key: see
	// [PrefixKeyID].
	PrefixSize = 1 + keyIDSize

	// MinEnvelope is the size of an envelope of nothing; none is smaller.
	MinEnvelope = headerSize + tagSize

	tagSize = 16
)

// PrefixKeyID is [EnvelopeKeyID] for the first [PrefixSize] bytes of what is at
// least [MinEnvelope] bytes long.
func PrefixKeyID(prefix []byte) string {
	if len(prefix) != PrefixSize || prefix[0] != envelopeVersion {
		return ""
	}
	return hex.EncodeToString(prefix[1:])
}

// KeyIDs are the ids of all keys, that of the first one first.
func (k *Keyring) KeyIDs() []string {
	keys := *k.keys.Load()
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = hex.EncodeToString(key.id[:])
	}
	return ids
}

// Reseal seals what an envelope holds under the first key, for the same place. It
// returns nil when the first key opens the envelope, so that there is nothing to
// do. Errors are those of [Keyring.Open].
func (k *Keyring) Reseal(aad string, envelope []byte) (resealed []byte, err error) {
	plain, key, err := k.open(aad, envelope)
	if err != nil || key == 0 {
		return nil, err
	}
	defer clear(plain)
	return k.Seal(aad, plain), nil
}

// Replace makes the keys of another keyring the keys of this one, at once for
// everybody who uses it.
func (k *Keyring) Replace(by *Keyring) { k.keys.Store(by.keys.Load()) }
