package simulator

import (
	"bytes"
	"encoding/binary"
)

// speech answers POST /v1/audio/speech with a moment of silence, see
// https://platform.openai.com/docs/api-reference/audio/createSpeech.
func (c *call) speech() {
	var req struct {
		Model  string `json:"model"`
		Input  string `json:"input"`
		Format string `json:"response_format"`
	}
	if !c.decode(&req) || !c.require("model", req.Model != "") || !c.require("input", req.Input != "") {
		return
	}
	contentType, audio := silence(req.Format)
	if audio == nil {
		c.refuse(badRequest("The simulator speaks mp3, wav and pcm only."))
		return
	}
	tokens := tokensOf(len(req.Input))
	b, ok := c.begin(req.Model, tokens)
	if !ok {
		return
	}
	c.s.stats.tokens(tokens, 0)
	c.body(b, contentType, audio)
}

// silence is a quarter of a second of it, nil for an unknown format.
func silence(format string) (contentType string, audio []byte) {
	const rate, samples = 24_000, 6_000
	switch format {
	case "", "mp3":
		return "audio/mpeg", silentMP3()
	case "wav":
		return "audio/wav", silentWAV(rate, samples)
	case "pcm":
		return "audio/pcm", make([]byte, 2*samples)
	}
	return "", nil
}

// silentMP3 is ten MPEG-1 layer III frames (128 kbit/s, 44.1 kHz) whose side
// information is all zero.
func silentMP3() []byte {
	const frameBytes = 144 * 128_000 / 44_100
	mp3 := make([]byte, frameBytes)
	copy(mp3, []byte{0xff, 0xfb, 0x90, 0x64})
	return bytes.Repeat(mp3, 10)
}

// silentWAV is 16-bit mono PCM in a RIFF container.
func silentWAV(rate, samples int) []byte {
	data := uint32(2 * samples)
	wav := append([]byte(nil), "RIFF"...)
	wav = binary.LittleEndian.AppendUint32(wav, 36+data)
	wav = append(wav, "WAVEfmt "...)
	wav = binary.LittleEndian.AppendUint32(wav, 16)
	wav = binary.LittleEndian.AppendUint16(wav, 1) // PCM
	wav = binary.LittleEndian.AppendUint16(wav, 1) // mono
	wav = binary.LittleEndian.AppendUint32(wav, uint32(rate))
	wav = binary.LittleEndian.AppendUint32(wav, uint32(2*rate))
	wav = binary.LittleEndian.AppendUint16(wav, 2)
	wav = binary.LittleEndian.AppendUint16(wav, 16)
	wav = append(wav, "data"...)
	wav = binary.LittleEndian.AppendUint32(wav, data)
	return append(wav, make([]byte, data)...)
}
