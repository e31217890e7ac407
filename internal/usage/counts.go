package usage

import "math/bits"

// Counter is one kind of what a provider bills. No token is in two of them.
type Counter uint8

// The counters. Audio is in milliseconds, so that fractions of seconds need no
// floating point.
const (
	Input        Counter = iota // prompt tokens, neither cached nor of audio or images
	CacheRead                   // prompt tokens read from the provider's cache, whatever they stand for
	CacheWrite5m                // prompt tokens written to the cache, for five minutes or for as long as the provider says
	CacheWrite1h                // prompt tokens written to the cache for an hour
	Output                      // answer tokens
	Reasoning                   // tokens of thinking, billed as output
	AudioInput                  // uncached audio tokens of the prompt
	AudioOutput                 // audio tokens of the answer
	ImageInput                  // uncached image tokens of the prompt
	ImageOutput                 // image tokens of the answer
	Images                      // pictures made
	AudioMillis                 // duration of the audio that was sent
	WebSearches                 // searches that the provider ran
	Pages                       // pages read by optical character recognition

	counters // how many there are
)

var counterNames = [counters]string{
	"input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning", "audio_input", "audio_output",
	"image_input", "image_output", "images", "audio_millis", "web_searches", "pages",
}

// String is the counter's name in snake case.
func (c Counter) String() string {
	if c < counters {
		return counterNames[c]
	}
	return "unknown"
}

// Source tells where counts come from.
type Source uint8

// The sources.
const (
	SourceNone      Source = iota // nothing is known
	SourceProvider                // the provider said so
	SourceEstimated               // derived from sizes, at least in part
)

// String is the source as events and tables name it.
func (s Source) String() string {
	switch s {
	case SourceProvider:
		return "provider"
	case SourceEstimated:
		return "estimated"
	default:
		return "none"
	}
}

// Counts is what an answer has used. A counter is present or not: a zero that
// the provider reported is not the same as silence. The zero value is empty.
type Counts struct {
	ResponseID  string // the provider's id of the answer, "" if not told
	Model       string // the model that answered
	ServiceTier string
	Finish      Finish
	Source      Source
	// Final says that the counts are those of the whole answer. Others are of an
	// answer under way, or of one that was broken off.
	Final bool

	present uint32
	values  [counters]int64
}

// maxCount is the most that a counter can be, far beyond any real answer. A
// provider's number above it is taken for absent: a budget is not to be destroyed
// by a typing error of theirs. Sums stay within it as well.
const maxCount = 1 << 40

// Get returns a counter and whether it is present.
func (c *Counts) Get(counter Counter) (int64, bool) {
	return c.values[counter], c.present&(1<<counter) != 0
}

// Set makes a counter present. Values are cut to what a counter can hold.
func (c *Counts) Set(counter Counter, n int64) {
	c.present |= 1 << counter
	c.values[counter] = min(max(n, 0), maxCount)
}

// Empty reports whether no counter is present.
func (c *Counts) Empty() bool { return c.present == 0 }

// Add adds the counters of another answer, as of a session with several. The
// texts, the finish and what is final are those of the later one, o.
func (c *Counts) Add(o *Counts) {
	for m := o.present; m != 0; m &= m - 1 {
		i := Counter(bits.TrailingZeros32(m))
		c.Set(i, c.values[i]+o.values[i])
	}
	if o.ResponseID != "" {
		c.ResponseID = o.ResponseID
	}
	if o.Model != "" {
		c.Model = o.Model
	}
	if o.ServiceTier != "" {
		c.ServiceTier = o.ServiceTier
	}
	if o.Finish != FinishNone {
		c.Finish = o.Finish
	}
	c.Final = o.Final
	c.Source = max(c.Source, o.Source)
}

// InputTokens is all of the prompt, cached and cache-written tokens included,
// whatever the provider's own sum includes.
func (c *Counts) InputTokens() (int64, bool) {
	return c.sum(Input, CacheRead, CacheWrite5m, CacheWrite1h, AudioInput, ImageInput)
}

// CachedTokens is what of the prompt was read from the provider's cache.
func (c *Counts) CachedTokens() (int64, bool) { return c.sum(CacheRead) }

// CacheWriteTokens is what of the prompt was written to the provider's cache.
func (c *Counts) CacheWriteTokens() (int64, bool) { return c.sum(CacheWrite5m, CacheWrite1h) }

// OutputTokens is all of the answer, reasoning included.
func (c *Counts) OutputTokens() (int64, bool) {
	return c.sum(Output, Reasoning, AudioOutput, ImageOutput)
}

// ReasoningTokens is what of the answer was thinking.
func (c *Counts) ReasoningTokens() (int64, bool) { return c.sum(Reasoning) }

func (c *Counts) sum(of ...Counter) (n int64, ok bool) {
	for _, counter := range of {
		if v, present := c.Get(counter); present {
			n, ok = n+v, true
		}
	}
	return min(n, maxCount), ok
}
