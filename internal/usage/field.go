package usage

import "math/bits"

// field is a number as a provider reports it, before it is made comparable.
type field uint8

const (
	noField field = iota
	fInput
	fOutput
	fTotal
	fCached      // of the details of the input
	fCacheHit    // the same, beside the input
	fCacheWrite  // in all
	fWrite5m     // of it
	fWrite1h     // of it
	fReasoning   // of the output, or beside it
	fAudioIn     // of the input
	fImageIn     // of the input
	fCachedAudio // of both cached and audio input
	fCachedImage
	fAudioOut
	fImageOut
	fToolPrompt // beside the input
	fMillis     // billed
	fDuration   // measured
	fImages
	fWebSearches // billed
	fSearchCalls // seen among what the answer holds
	fPages

	fieldCount
)

// fields is a set of fields.
type fields uint32

func (f field) bit() fields {
	if f == noField {
		return 0
	}
	return 1 << f
}

// reported are the fields that make an answer's usage known. The others are
// details of these.
const reported = fields(1<<fInput | 1<<fOutput | 1<<fTotal | 1<<fMillis | 1<<fDuration | 1<<fImages | 1<<fPages)

// raw holds fields.
type raw struct {
	present fields
	values  [fieldCount]int64
}

func (r *raw) has(f field) bool { return r.present&f.bit() != 0 }

func (r *raw) get(f field) int64 {
	if !r.has(f) {
		return 0
	}
	return r.values[f]
}

func (r *raw) set(f field, n int64) {
	r.present |= f.bit()
	r.values[f] = n
}

// add counts up.
func (r *raw) add(f field, n int64) { r.set(f, min(r.get(f)+n, maxCount)) }

// merge takes over what o has, field by field.
func (r *raw) merge(o *raw) {
	for m := o.present; m != 0; m &= m - 1 {
		f := field(bits.TrailingZeros32(uint32(m)))
		r.values[f] = o.values[f]
	}
	r.present |= o.present
}
