package usage

// normalise makes a provider's numbers disjoint. A part that exceeds its whole is
// cut: the sums are what providers bill by, so they hold.
func normalise(r *raw, f *form) Counts {
	var c Counts
	if f == nil {
		return c
	}
	switch f.dialect {
	case anthropic:
		normaliseAnthropic(r, &c)
	default:
		normaliseInput(r, &c, r.get(fInput)+r.get(fToolPrompt))
		normaliseOutput(r, &c, f.dialect)
	}
	set(&c, Images, r, fImages)
	set(&c, WebSearches, r, fSearchCalls)
	set(&c, WebSearches, r, fWebSearches)
	set(&c, Pages, r, fPages)
	switch {
	case r.has(fMillis):
		set(&c, AudioMillis, r, fMillis)
	case !r.has(fInput): // tokens are billed then, not the duration
		set(&c, AudioMillis, r, fDuration)
	}
	return c
}

// normaliseInput is for dialects whose input includes everything.
func normaliseInput(r *raw, c *Counts, whole int64) {
	if !r.has(fInput) && !r.has(fToolPrompt) {
		return
	}
	left := whole
	if r.has(fCached) || r.has(fCacheHit) {
		c.Set(CacheRead, take(&left, max(r.get(fCached), r.get(fCacheHit))))
	}
	if r.has(fCacheWrite) {
		c.Set(CacheWrite5m, take(&left, r.get(fCacheWrite)))
	}
	if r.has(fAudioIn) {
		c.Set(AudioInput, take(&left, r.get(fAudioIn)-r.get(fCachedAudio)))
	}
	if r.has(fImageIn) {
		c.Set(ImageInput, take(&left, r.get(fImageIn)-r.get(fCachedImage)))
	}
	c.Set(Input, left)
}

func normaliseOutput(r *raw, c *Counts, d dialect) {
	if !r.has(fOutput) && !r.has(fReasoning) {
		return
	}
	left, thought := r.get(fOutput), r.get(fReasoning)
	beyond := r.get(fTotal) - r.get(fInput) - left // what the total has that its parts have not
	switch {
	case d == gemini:
		set(c, Reasoning, r, fReasoning)
	case d == geminiChat && beyond > 0:
		c.Set(Reasoning, max(beyond, thought))
	case thought > 0 && beyond == thought: // xAI's completion_tokens leave thinking out
		c.Set(Reasoning, thought)
	case r.has(fReasoning):
		c.Set(Reasoning, take(&left, thought))
	}
	if r.has(fAudioOut) {
		c.Set(AudioOutput, take(&left, r.get(fAudioOut)))
	}
	if r.has(fImageOut) {
		c.Set(ImageOutput, take(&left, r.get(fImageOut)))
	}
	switch {
	case !r.has(fOutput):
	case d == openAISpeech:
		c.Set(AudioOutput, left)
	case d == openAIImages && !r.has(fImageOut):
		c.Set(ImageOutput, left)
	default:
		c.Set(Output, left)
	}
}

// normaliseAnthropic is for an input that stands beside the cache's tokens.
func normaliseAnthropic(r *raw, c *Counts) {
	set(c, Input, r, fInput)
	set(c, CacheRead, r, fCached)
	if r.has(fCacheWrite) || r.has(fWrite5m) || r.has(fWrite1h) {
		// Without a time to live it is five minutes; the sum holds if there is one.
		all := max(r.get(fCacheWrite), r.get(fWrite5m)+r.get(fWrite1h))
		c.Set(CacheWrite1h, take(&all, r.get(fWrite1h)))
		c.Set(CacheWrite5m, all)
	}
	left := r.get(fOutput)
	if r.has(fReasoning) {
		c.Set(Reasoning, take(&left, r.get(fReasoning)))
	}
	if r.has(fOutput) {
		c.Set(Output, left)
	}
}

func set(c *Counts, counter Counter, r *raw, f field) {
	if r.has(f) {
		c.Set(counter, r.values[f])
	}
}

// take moves up to n out of what is left.
func take(left *int64, n int64) int64 {
	n = min(max(n, 0), *left)
	*left -= n
	return n
}
