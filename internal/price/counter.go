package price

// counter is something that providers charge for. The order is that of the
// tables below; tokens come first.
type counter uint8

const (
	input counter = iota
	cacheRead
	cacheWrite5m
	cacheWrite1h
	inputAudio
	cacheReadAudio
	inputImage
	cacheReadImage
	inputVideo
	output
	reasoning
	citation
	outputAudio
	outputImage
	outputVideo
	numTokens // what follows is not counted in tokens

	inputAudioTime counter = iota - 1
	outputAudioTime
	webSearches
	fileSearches
	codeExecutions
	images
	pages
	annotatedPages
	characters
	textMessages
	requests
	numCounters // what follows has prices, but is not counted itself

	cacheWrite counter = iota - 2
	audioTime
	numPrices
)

const firstOutput = output // tokens below are the prompt's

// Quantities are what a request used. The counters are disjoint: a token that
// was read from the cache is not among Input, one that was thought is not among
// Output. That the request itself may cost something needs no counter.
type Quantities struct {
	Input          int64 // tokens of the prompt that none of the others counts
	CacheRead      int64
	CacheWrite5m   int64 // written to a cache that keeps them as long as it does by default
	CacheWrite1h   int64
	InputAudio     int64
	CacheReadAudio int64
	InputImage     int64
	CacheReadImage int64
	InputVideo     int64
	Output         int64 // tokens of the answer that none of the others counts
	Reasoning      int64
	Citation       int64
	OutputAudio    int64
	OutputImage    int64
	OutputVideo    int64

	InputAudioMillis  int64 // length of a recording, where that is charged
	OutputAudioMillis int64
	WebSearches       int64
	FileSearches      int64
	CodeExecutions    int64
	Images            int64 // images made, where each one is charged
	Pages             int64 // pages of a document
	AnnotatedPages    int64
	Characters        int64 // of text that is spoken
	TextMessages      int64 // in a voice session
}

func (q *Quantities) counts() [numCounters]int64 {
	return [numCounters]int64{
		input: q.Input, cacheRead: q.CacheRead, cacheWrite5m: q.CacheWrite5m, cacheWrite1h: q.CacheWrite1h,
		inputAudio: q.InputAudio, cacheReadAudio: q.CacheReadAudio, inputImage: q.InputImage,
		cacheReadImage: q.CacheReadImage, inputVideo: q.InputVideo,
		output: q.Output, reasoning: q.Reasoning, citation: q.Citation,
		outputAudio: q.OutputAudio, outputImage: q.OutputImage, outputVideo: q.OutputVideo,
		inputAudioTime: q.InputAudioMillis, outputAudioTime: q.OutputAudioMillis,
		webSearches: q.WebSearches, fileSearches: q.FileSearches, codeExecutions: q.CodeExecutions,
		images: q.Images, pages: q.Pages, annotatedPages: q.AnnotatedPages,
		characters: q.Characters, textMessages: q.TextMessages, requests: 1,
	}
}

// Scales: a decimal price is kept as an integer, in picodollars for a million
// tokens, and in 1/3.6e8 of a nanodollar for one of anything else. The latter
// divides evenly into hours, thousands and millions.
const (
	tokenPlaces = 12             // of a price for a million tokens
	tokenScale  = 1_000_000_000  // token rate × tokens / tokenScale = nanodollars
	unitPlaces  = 9              // of any other price: nanodollars
	unitScale   = 360_000_000    // unit rate × units / unitScale = nanodollars
	perOne      = unitScale      // factor from nanodollars for one
	perThousand = perOne / 1_000 // … for a thousand
	perMillion  = perOne / 1_000_000
	perHour     = unitScale / 3_600_000 // of counters in milliseconds
)

// name is how a price is called in override files and in the snapshot.
type name struct {
	what   counter
	factor uint64 // from nanodollars to the rate; 0: tokens
}

// overrideNames are the prices of an override file.
var overrideNames = map[string]name{
	"input": {input, 0}, "output": {output, 0},
	"cache_read": {cacheRead, 0}, "cache_write": {cacheWrite, 0},
	"cache_write_5m": {cacheWrite5m, 0}, "cache_write_1h": {cacheWrite1h, 0},
	"reasoning": {reasoning, 0}, "citation": {citation, 0},
	"input_audio": {inputAudio, 0}, "output_audio": {outputAudio, 0}, "cache_read_audio": {cacheReadAudio, 0},
	"input_image": {inputImage, 0}, "output_image": {outputImage, 0}, "cache_read_image": {cacheReadImage, 0},
	"input_video": {inputVideo, 0}, "output_video": {outputVideo, 0},
	"audio_hour": {audioTime, perHour}, "input_audio_hour": {inputAudioTime, perHour}, "output_audio_hour": {outputAudioTime, perHour},
	"web_search": {webSearches, perOne}, "file_search": {fileSearches, perOne}, "code_execution": {codeExecutions, perOne},
	"image": {images, perOne}, "page": {pages, perOne}, "annotated_page": {annotatedPages, perOne},
	"million_characters": {characters, perMillion}, "text_message": {textMessages, perOne}, "request": {requests, perOne},
}

// snapshotNames are the prices of the embedded table.
var snapshotNames = map[string]name{
	"input_mtok": {input, 0}, "output_mtok": {output, 0},
	"cache_read_mtok": {cacheRead, 0}, "cache_write_mtok": {cacheWrite, 0},
	"cache_write_5m_mtok": {cacheWrite5m, 0}, "cache_write_1h_mtok": {cacheWrite1h, 0},
	"output_reasoning_mtok": {reasoning, 0}, "output_citation_mtok": {citation, 0},
	"input_audio_mtok": {inputAudio, 0}, "output_audio_mtok": {outputAudio, 0}, "cache_audio_read_mtok": {cacheReadAudio, 0},
	"input_image_mtok": {inputImage, 0}, "output_image_mtok": {outputImage, 0}, "cache_image_read_mtok": {cacheReadImage, 0},
	"input_video_mtok": {inputVideo, 0}, "output_video_mtok": {outputVideo, 0},
	"audio_hours": {audioTime, perHour}, "input_audio_hours": {inputAudioTime, perHour}, "output_audio_hours": {outputAudioTime, perHour},
	"web_searches_kcount": {webSearches, perThousand}, "storage_searches_kcount": {fileSearches, perThousand},
	"code_executions_kcount": {codeExecutions, perThousand},
	"input_document_kpages":  {pages, perThousand}, "input_annotated_document_kpages": {annotatedPages, perThousand},
	"input_mchars": {characters, perMillion}, "input_text_messages_kcount": {textMessages, perThousand},
	"requests_kcount": {requests, perThousand},
}

// parents tell whose price counts where a counter has none of its own: the first
// one that is known. It is the snapshot's rule, whose makers leave out a price
// that equals the more general one. Parents are settled first, but for audio and
// images: what is read from the cache costs as much as what is not only where that
// has a price of its own, since a discount that nobody promised is not assumed.
//
// With media, the rule holds only for models whose media are known to have
// been looked at: some entries just lack the price of audio, which is a multiple
// of that of text.
var parents = []struct {
	of    counter
	from  []counter
	media bool
}{
	{of: cacheRead, from: []counter{input}},
	{of: cacheWrite, from: []counter{input}},
	{of: cacheWrite5m, from: []counter{cacheWrite}},
	{of: cacheWrite1h, from: []counter{cacheWrite}},
	{of: cacheReadAudio, from: []counter{inputAudio, cacheRead}, media: true},
	{of: cacheReadImage, from: []counter{inputImage, cacheRead}},
	{of: inputAudio, from: []counter{input}, media: true},
	{of: inputImage, from: []counter{input}},
	{of: inputVideo, from: []counter{input}},
	{of: reasoning, from: []counter{output}},
	{of: citation, from: []counter{output}},
	{of: outputAudio, from: []counter{output}, media: true},
	{of: outputImage, from: []counter{output}, media: true},
	{of: outputVideo, from: []counter{output}, media: true},
	{of: inputAudioTime, from: []counter{audioTime}},
	{of: outputAudioTime, from: []counter{audioTime}},
	{of: annotatedPages, from: []counter{pages}},
}

// mediaCounters are those of tokens that are no text.
var mediaCounters = []counter{inputAudio, cacheReadAudio, inputImage, cacheReadImage, inputVideo, outputAudio, outputImage, outputVideo}
