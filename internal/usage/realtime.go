package usage

import "bytes"

var usageName = []byte(`"usage"`)

// Message reads one text message of a realtime session from the provider and
// returns what it bills: a response that is done, or the transcription of an
// input. Others, which are most, cost one search. A session's counts are the sum of
// its messages', by [Counts.Add].
func (r *Reader) Message(p []byte) (Counts, bool) {
	if !bytes.Contains(p, usageName) {
		return Counts{}, false
	}
	r.Reset(KindRealtime, "")
	r.walker.write(p, r)
	if !r.ended || !r.billed {
		return Counts{}, false
	}
	c := r.Counts()
	return c, !c.Empty()
}
