package simulator

import "time"

const (
	defaultPace   = 20 * time.Millisecond
	defaultChunks = 24

	// maxBody bounds every buffered (JSON) request body. Uploads are streamed
	// through and are not bounded by it.
	maxBody = 64 << 20
)

// Options configures a [Server]. The zero value is usable.
type Options struct {
	// Pace is the delay between two chunks of a stream. Zero means 20ms, a
	// negative value no delay at all, which is what load tests want.
	Pace time.Duration

	// FirstByte is the delay before the response headers of every model call.
	// Default: none.
	FirstByte time.Duration

	// Keys lists the accepted API keys. When empty, any non-empty credential
	// is accepted. A request without a credential is always refused with 401.
	Keys []string

	// Chunks is the number of words of an answer, each sent as a chunk of its
	// own when streamed. Zero means 24.
	Chunks int

	// Record is the number of received requests kept for [Server.Requests].
	// Zero, the default, keeps none. Records hold credentials in clear: the
	// point is to see what a provider sees. They never leave the process.
	Record int

	// Now replaces the clock used for timestamps. Default: [time.Now].
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Pace == 0 {
		o.Pace = defaultPace
	}
	if o.Chunks <= 0 {
		o.Chunks = defaultChunks
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
