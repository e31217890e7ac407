package usage

// bytesPerToken is what a token of English text takes. Other languages and code
// take fewer bytes a token, JSON around the text more; an estimate is no more than
// that.
const bytesPerToken = 4

// Estimate is what an answer may have used when nobody says: a token for every
// four bytes of the request's body, and of the answer's text that was seen. It
// knows nothing of thinking that the provider keeps to itself, which can be most
// of the output; and it takes files inside a request's JSON, in base64, for text,
// so that a caller who knows better should give less.
func Estimate(requestBytes, contentBytes int64) Counts {
	c := Counts{Source: SourceEstimated}
	c.Set(Input, tokensOf(requestBytes))
	c.Set(Output, tokensOf(contentBytes))
	return c
}

// OrEstimate completes counts that are not final. What the provider has
// reported is never lowered: an answer that was broken off has its input from the
// provider, if that came first, and as much output as was seen or reported.
func (c Counts) OrEstimate(requestBytes, contentBytes int64) Counts {
	if c.Final {
		return c
	}
	guess := Estimate(requestBytes, contentBytes)
	if _, ok := c.InputTokens(); !ok {
		c.Set(Input, guess.values[Input])
	}
	if reported, _ := c.OutputTokens(); reported < guess.values[Output] {
		visible, _ := c.Get(Output)
		c.Set(Output, visible+guess.values[Output]-reported)
	} else {
		c.Set(Output, c.values[Output])
	}
	c.Source = SourceEstimated
	return c
}

func tokensOf(n int64) int64 {
	return max(n, 0)/bytesPerToken + min(max(n, 0)%bytesPerToken, 1)
}
