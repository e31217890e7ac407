package simulator

import (
	"strings"
)

// filler is what answers are filled up with.
const filler = "the simulator answers in plain words so that every stream has something to say and " +
	"each word counts as one token which makes the bill easy to check by hand while nothing here leaves this machine"

// quoted limits, in words, what an answer repeats of the question.
const quoted = 12

// textFor is the answer's text: a friendly sentence about the question, then
// filler up to the number of words.
func textFor(p *prompt, words int) string {
	said := strings.Fields(p.question)
	if len(said) > quoted {
		said = append(said[:quoted:quoted], "...")
	}
	opening := `You said: "` + strings.Join(said, " ") + `". Happy to help!`
	if p.fromTool {
		opening = `Thanks to the tool, here is the answer to: "` + strings.Join(said, " ") + `".`
	}
	text := strings.Fields(opening)
	more := strings.Fields(filler)
	for i := len(text); i < words; i++ {
		text = append(text, more[i%len(more)])
	}
	return strings.Join(text[:words], " ")
}

// bigText is filler of exactly that many bytes.
func bigText(bytes int) string {
	return strings.Repeat(filler+" ", bytes/(len(filler)+1)+1)[:bytes]
}

// words counts the words of a text whose words are separated by single spaces.
func words(text string) int {
	if text == "" {
		return 0
	}
	return 1 + strings.Count(strings.TrimSuffix(text, " "), " ")
}

// firstWords cuts a text after n words.
func firstWords(text string, n int) string {
	for i := range len(text) {
		if text[i] == ' ' {
			if n--; n == 0 {
				return text[:i]
			}
		}
	}
	return text
}

// split cuts a text before spaces into at most n pieces of about equal size.
// Joined again they give the text, as the chunks of a stream must.
func split(text string, n int) []string {
	if total := words(text); n >= total {
		return splitWords(text, total)
	}
	var pieces []string
	size := (len(text) + n - 1) / n
	for len(text) > size {
		cut := strings.IndexByte(text[size:], ' ')
		if cut < 0 {
			break
		}
		pieces = append(pieces, text[:size+cut])
		text = text[size+cut:]
	}
	return append(pieces, text)
}

func splitWords(text string, total int) []string {
	pieces := make([]string, 0, total)
	for len(text) > 0 {
		end := strings.IndexByte(text[1:], ' ')
		if end < 0 || end+2 == len(text) {
			return append(pieces, text)
		}
		pieces = append(pieces, text[:end+1])
		text = text[end+1:]
	}
	return pieces
}

// splitRunes cuts a text into pieces of at most n runes: the arguments of a
// tool call have no words.
func splitRunes(text string, n int) []string {
	var pieces []string
	start, count := 0, 0
	for i := range text {
		if count == n {
			pieces, start, count = append(pieces, text[start:i]), i, 0
		}
		count++
	}
	return append(pieces, text[start:])
}
