package respcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Sealer seals what is put into Redis, and opens it in the place that it was sealed
// for alone. [*secret.Keyring] does.
type Sealer interface {
	Seal(place string, plain []byte) []byte
	Open(place string, envelope []byte) ([]byte, error)
}

const (
	plainForm = 0
	zstdForm  = 1

	// compressFrom is the size from which compression is worth its time.
	compressFrom = 1 << 10
	// maxPlain bounds what an entry may be when it is decompressed.
	maxPlain = 256 << 20
)

var errForm = errors.New("not in a form that this binary knows")

// The encoder and decoder are for whole values, many at a time, and run nothing in
// the background.
var zstdCodec = sync.OnceValues(func() (c struct {
	*zstd.Encoder
	*zstd.Decoder
}, err error) {
	var encoderErr, decoderErr error
	c.Encoder, encoderErr = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(zstd.SpeedFastest))
	c.Decoder, decoderErr = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxPlain))
	return c, errors.Join(encoderErr, decoderErr)
})

// pack compresses what is worth it.
func pack(plain []byte) []byte {
	if len(plain) >= compressFrom {
		if c, err := zstdCodec(); err == nil {
			head := binary.AppendUvarint([]byte{zstdForm}, uint64(len(plain)))
			if packed := c.EncodeAll(plain, head); len(packed) < len(plain) {
				return packed
			}
		}
	}
	return append([]byte{plainForm}, plain...)
}

func unpack(packed []byte) ([]byte, error) {
	if len(packed) == 0 {
		return nil, errForm
	}
	form, rest := packed[0], packed[1:]
	switch form {
	case plainForm:
		return rest, nil
	case zstdForm:
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > maxPlain {
			return nil, errForm
		}
		c, err := zstdCodec()
		if err != nil {
			return nil, fmt.Errorf("making the decompressor: %w", err)
		}
		// What it says is authentic, but need not be believed for that.
		plain, err := c.DecodeAll(rest[n:], make([]byte, 0, min(size, 16*uint64(len(rest)))))
		if err != nil || uint64(len(plain)) != size {
			return nil, errForm
		}
		return plain, nil
	}
	return nil, errForm
}

// Places that values are sealed for: what is copied from one key to another, or from
// one variant to another, does not open.
func entryPlace(primary, variant *Key) string {
	return "cache entry 1:" + string(primary[:]) + string(variant[:])
}

func labelPlace(name, field string) string { return "cache label 1:" + name + ":" + field }

// sealEntry is an entry as it is in Redis.
func sealEntry(s Sealer, e *Entry) []byte {
	return s.Seal(entryPlace(&e.Primary, &e.Variant), pack(encodeEntry(nil, e)))
}

// openEntry is the entry that was sealed for these keys.
func openEntry(s Sealer, primary, variant Key, envelope []byte) (*Entry, error) {
	packed, err := s.Open(entryPlace(&primary, &variant), envelope)
	if err != nil {
		return nil, err
	}
	plain, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	e, err := decodeEntry(plain)
	if err != nil {
		return nil, err
	}
	e.Primary, e.Variant = primary, variant
	return e, nil
}
