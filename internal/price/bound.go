package price

import "math"

// Maxima are the most that a request may use, as far as can be told before it is
// sent.
type Maxima struct {
	Input      int64 // tokens of the prompt, whether cached or not, other than the following
	InputAudio int64
	InputImage int64
	InputVideo int64

	Output      int64 // tokens of the answer, thoughts included, other than the following
	OutputAudio int64
	OutputImage int64
	OutputVideo int64

	InputAudioMillis, OutputAudioMillis       int64
	WebSearches, FileSearches, CodeExecutions int64
	Images, Pages, AnnotatedPages             int64
	Characters, TextMessages                  int64

	// Mixed says that Input and Output may be tokens of any kind that the model has a
	// price for: text, audio, pictures.
	Mixed bool
	// AnyTier says that nobody knows the service tier: any that has a price may be
	// charged.
	AnyTier bool
}

// What tokens of a kind may turn out to be. A provider may count a token of
// audio among the plain ones, so that their prices count too.
var (
	plainInput  = []counter{input, cacheRead, cacheWrite5m, cacheWrite1h}
	audioInput  = append([]counter{inputAudio, cacheReadAudio}, plainInput...)
	imageInput  = append([]counter{inputImage, cacheReadImage}, plainInput...)
	videoInput  = append([]counter{inputVideo}, plainInput...)
	plainOutput = []counter{output, reasoning, citation}
	audioOutput = append([]counter{outputAudio}, plainOutput...)
	imageOutput = append([]counter{outputImage}, plainOutput...)
	videoOutput = append([]counter{outputVideo}, plainOutput...)

	// A model without a price for one of these does not take it, or write it.
	anyInput  = []counter{inputAudio, cacheReadAudio, inputImage, cacheReadImage, inputVideo}
	anyOutput = []counter{outputAudio, outputImage, outputVideo}
)

// UpperBound is at least the Cost of every request that stays within the maxima:
// each token at the dearest price it may have, at any length of the prompt up to
// the maximum, at the standard service tier and at those that are named. Name what
// the request may be served with; a tier whose price is not known, and a maximum
// of something without a price, makes it incomplete, and 0. A bound that is too
// large to be an amount is math.MaxInt64.
func (p *Price) UpperBound(m Maxima, serviceTiers ...string) (nanoUSD int64, complete bool) {
	nanoUSD, complete = p.boundAt(&m, "")
	if m.AnyTier {
		for i := range p.tiers {
			if n, ok := p.boundAt(&m, p.tiers[i].name); ok {
				nanoUSD = max(nanoUSD, n)
			}
		}
	}
	for _, name := range serviceTiers {
		n, ok := p.boundAt(&m, name)
		nanoUSD, complete = max(nanoUSD, n), complete && ok
	}
	if !complete {
		return 0, false
	}
	return nanoUSD, true
}

func (p *Price) boundAt(m *Maxima, serviceTier string) (nanoUSD int64, complete bool) {
	r, by := p.tier(serviceTier)
	if r == nil {
		return 0, false
	}
	prompt := addSaturating(addSaturating(m.Input, m.InputAudio), addSaturating(m.InputImage, m.InputVideo))
	b := bound{rates: r, prompt: prompt, complete: true}
	if m.Mixed {
		b.anyTokens(m.Input, plainInput, anyInput)
	} else {
		b.tokens(m.Input, plainInput)
	}
	// Models that draw or speak do so unasked.
	b.anyTokens(m.Output, plainOutput, anyOutput)
	b.tokens(m.InputAudio, audioInput)
	b.tokens(m.InputImage, imageInput)
	b.tokens(m.InputVideo, videoInput)
	b.tokens(m.OutputAudio, audioOutput)
	b.tokens(m.OutputImage, imageOutput)
	b.tokens(m.OutputVideo, videoOutput)
	b.units(p.limits.billedAudio(m.InputAudioMillis), inputAudioTime)
	b.units(m.OutputAudioMillis, outputAudioTime)
	b.units(m.WebSearches, webSearches)
	b.units(m.FileSearches, fileSearches)
	b.units(m.CodeExecutions, codeExecutions)
	b.units(m.Images, images)
	b.units(m.Pages, pages)
	b.units(m.AnnotatedPages, annotatedPages)
	b.units(m.Characters, characters)
	b.units(m.TextMessages, textMessages)
	if r[requests].known {
		b.units(1, requests)
	}
	if !b.complete {
		return 0, false
	}
	nanoUSD, ok := total(b.token, b.unit, by)
	if !ok {
		return math.MaxInt64, true
	}
	return nanoUSD, true
}

type bound struct {
	rates       *rates
	prompt      int64
	token, unit sum
	complete    bool
}

func (b *bound) tokens(n int64, may []counter) {
	if n == 0 {
		return
	}
	var dearest uint64
	for _, c := range may {
		r := &b.rates[c]
		b.complete = b.complete && r.known
		dearest = max(dearest, r.dearest(b.prompt))
	}
	b.complete = b.complete && n > 0
	b.token.add(uint64(n), dearest)
}

// anyTokens is tokens of kinds that need not have a price.
func (b *bound) anyTokens(n int64, plain, others []counter) {
	if n == 0 {
		return
	}
	var dearest uint64
	for _, c := range plain {
		r := &b.rates[c]
		b.complete = b.complete && r.known
		dearest = max(dearest, r.dearest(b.prompt))
	}
	for _, c := range others {
		if r := &b.rates[c]; r.known {
			dearest = max(dearest, r.dearest(b.prompt))
		}
	}
	b.complete = b.complete && n > 0
	b.token.add(uint64(n), dearest)
}

func (b *bound) units(n int64, c counter) {
	if n == 0 {
		return
	}
	b.complete = b.complete && n > 0 && b.rates[c].known
	b.unit.add(uint64(n), b.rates[c].base)
}
