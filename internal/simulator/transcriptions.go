package simulator

import (
	"fmt"
	"strings"
)

// audioBytesPerSecond is what a second of 16 kHz mono speech takes; it turns
// the size of an upload into a duration.
const audioBytesPerSecond = 32_000

// transcriptions answers POST /v1/audio/transcriptions, see
// https://platform.openai.com/docs/api-reference/audio/createTranscription.
func (c *call) transcriptions() {
	up, ok := c.readUpload()
	if !ok || !c.require("model", up.fields["model"] != "") || !c.require("file", up.hasFile) {
		return
	}
	p := &prompt{model: up.fields["model"], choices: 1, stream: up.fields["stream"] == "true"}
	p.say("user", fmt.Sprintf("%d bytes of audio", up.bytes))
	b, ok := c.begin(p.model, p.tokens())
	if !ok {
		return
	}
	a := c.compose(p, b)
	f := &transcriptForm{answer: a, seconds: int((up.bytes + audioBytesPerSecond - 1) / audioBytesPerSecond)}
	if format := up.fields["response_format"]; !p.stream && (format == "text" || format == "srt" || format == "vtt") {
		c.s.stats.tokens(a.usage.prompt, a.emitted(len(a.pieces)))
		c.body(b, "text/plain; charset=utf-8", []byte(f.plain(format)))
		return
	}
	c.reply(p, b, a, f)
}

// transcriptForm writes transcription objects and their stream events.
type transcriptForm struct {
	*answer
	seconds int
}

func (f *transcriptForm) whole() object {
	return object{"text", f.text()}.with(!f.noUsage, "usage", f.bill())
}

// bill is a duration for Whisper and tokens for the newer models.
func (f *transcriptForm) bill() object {
	if strings.HasPrefix(f.model, "whisper") {
		return object{"type", "duration", "seconds", f.seconds}
	}
	return object{
		"type", "tokens", "input_tokens", f.usage.prompt,
		"input_token_details", object{"text_tokens", 0, "audio_tokens", f.usage.prompt},
		"output_tokens", f.usage.completion, "total_tokens", f.usage.total(),
	}
}

func (f *transcriptForm) plain(format string) string {
	switch format {
	case "srt":
		return "1\n00:00:00,000 --> 00:00:01,000\n" + f.text() + "\n"
	case "vtt":
		return "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n" + f.text() + "\n"
	}
	return f.text() + "\n"
}

func (f *transcriptForm) open() []frame { return nil }

func (f *transcriptForm) piece(i int) []frame {
	return []frame{event("transcript.text.delta", "delta", f.pieces[i])}
}

func (f *transcriptForm) end() []frame {
	last := object{"type", "transcript.text.done", "text", f.text()}.with(!f.noUsage, "usage", f.bill())
	return []frame{{event: "transcript.text.done", data: encode(last)}}
}

func (f *transcriptForm) failure(p problem) frame { return openAIFailure(p) }
