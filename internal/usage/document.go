package usage

import "unicode/utf8"

// document is what one JSON document, an event's or a whole answer, has told.
type document struct {
	raw
	event     event
	finish    Finish
	failed    bool
	errorType code
	errorCode code
	topCode   code
	usageDone bool // the usage object is complete
	stated    bool // it tells how far the answer is
	pending   bool // namely that it will go on elsewhere

	modality modality
	detail   int64
}

// event is the type of an event, as far as it matters.
type event uint8

const (
	eventOther      event = iota
	eventError            // the answer has failed
	eventStop             // Anthropic's last
	eventResponse         // a response has ended
	eventDone             // another answer has ended
	eventImage            // so has a picture
	eventTranscript       // an input's transcription, in a realtime session
)

func eventOf(name []byte) event {
	switch string(name) {
	case "error", "conversation.response.error":
		return eventError
	case "message_stop":
		return eventStop
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done":
		return eventResponse
	case "transcript.text.done", "speech.audio.done", "conversation.response.done":
		return eventDone
	case "image_generation.completed", "image_edit.completed":
		return eventImage
	case "conversation.item.input_audio_transcription.completed":
		return eventTranscript
	}
	return eventOther
}

type modality uint8

const (
	modalityOther modality = iota
	modalityAudio
	modalityImage
)

// code is a short text of an error.
type code struct {
	n    uint8
	text [maxCode]byte
}

const maxCode = 64

// set keeps the beginning of s, if it is fit to print.
func (c *code) set(s []byte) {
	c.n = 0
	if printable(s) {
		s = s[:min(len(s), maxCode)]
		for !utf8.Valid(s) { // cut in the middle of a character
			s = s[:len(s)-1]
		}
		c.n = uint8(copy(c.text[:], s))
	}
}

func (c *code) String() string { return string(c.text[:c.n]) }

// printable tells texts that may stand in logs and tables.
func printable(s []byte) bool {
	for _, b := range s {
		if b < ' ' || b == 0x7f {
			return false
		}
	}
	return utf8.Valid(s)
}

func (d *document) reset() {
	d.present, d.event, d.finish = 0, eventOther, FinishNone
	d.failed, d.usageDone, d.stated = false, false, false
	d.errorType.n, d.errorCode.n, d.topCode.n = 0, 0, 0
}

// number takes a number, or true, false or null.
func (d *document) number(n *node, literal []byte) {
	switch n.role {
	case roleErrorCode, roleTopCode:
		if c := literal[0]; c >= '0' && c <= '9' || c == '-' {
			d.text(n, literal)
		}
	case roleDetailCount:
		d.detail, _ = count(literal)
	case roleMillis:
		if ms, ok := millis(literal); ok {
			d.set(n.field, ms)
		}
	case roleNone:
		if n.field == noField {
			return
		}
		if k, ok := count(literal); ok {
			d.set(n.field, k)
		}
	}
}

// text takes a string that is about the document. It is nil if too long.
func (d *document) text(n *node, s []byte) {
	switch n.role {
	case roleEvent:
		d.event = eventOf(s)
	case roleFinish:
		d.finish = merged(d.finish, finishOf(s))
		d.stated, d.pending = true, string(s) == "queued" || string(s) == "in_progress"
	case roleBlock:
		d.finish = FinishFiltered
	case roleError, roleErrorType:
		d.errorType.set(s)
	case roleErrorCode:
		d.errorCode.set(s)
	case roleTopCode:
		d.topCode.set(s)
	case roleItemType:
		if string(s) == "web_search_call" {
			d.add(n.field, 1)
		}
	case roleImage:
		d.add(n.field, 1)
	case roleModality:
		switch string(s) {
		case "AUDIO":
			d.modality = modalityAudio
		case "IMAGE":
			d.modality = modalityImage
		}
	}
}

// merged prefers the more telling reason: a response is incomplete because of a filter.
func merged(a, b Finish) Finish {
	if b == FinishNone || a == FinishFiltered || a == FinishError {
		return a
	}
	return b
}

// endDetail books one modality's share.
func (d *document) endDetail(n *node) {
	switch d.modality {
	case modalityAudio:
		d.add(n.field, d.detail)
	case modalityImage:
		d.add(n.image, d.detail)
	}
}
