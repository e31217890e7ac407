package usage

// ContentBytes is how much text the model has been seen to write: answers,
// visible thinking and arguments of tools, decoded.
func (r *Reader) ContentBytes() int64 {
	if n, size := r.walker.pending(); n != nil && n.role == roleContent && r.mode != modeOff {
		return r.content + size
	}
	return r.content
}

// ContentSeen reports whether any content has come, be it text, audio or an image:
// when it turns true, the first token is here.
func (r *Reader) ContentSeen() bool {
	if r.seen {
		return true
	}
	n, size := r.walker.pending()
	return n != nil && size > 0 && (n.role == roleContent || n.role == roleBlob) && r.mode != modeOff
}

// Ended reports whether the answer came to the end that its dialect marks: an
// answer that stops without it was broken off, even if its connection was not.
func (r *Reader) Ended() bool { return r.ended }

// Pending reports whether the answer only says that a response was queued or is
// in progress, in the background. What it uses is told to whoever gets the response by
// its id when it is done; there is nothing to estimate yet.
func (r *Reader) Pending() bool { return r.pending && r.mode == modeBody }

// Failed reports whether the answer is, or holds, an error, and what the provider
// calls it: at most 64 bytes of its type and of its code. The message is not kept,
// since it may repeat a prompt or a key.
func (r *Reader) Failed() (kind, code string, failed bool) {
	return r.errType.String(), r.errCode.String(), r.failed
}

// Counts is what is known so far; it may be asked at any time.
func (r *Reader) Counts() Counts {
	total, final := r.total, r.final || r.ended && r.total.present&reported != 0
	if r.mode == modeBody && r.walker.depth > 0 {
		// Of a body that broke off, or is still coming, what is complete.
		total.merge(&r.doc.raw)
		final = final || r.doc.usageDone && r.kind != KindGenerate
	}
	c := normalise(&total, r.form)
	c.ResponseID, c.Model, c.ServiceTier, c.Finish = r.id, r.model, r.tier, r.finish
	if c.Empty() {
		return c
	}
	c.Final, c.Source = final, SourceProvider
	return c
}
