// Package glob matches the patterns that operators write for models, headers and
// values.
package glob

import "strings"

// Match reports whether text matches the pattern, in which * stands for any
// run of characters (a slash too: model names hold them) and ? for one byte.
// It runs in time linear in len(pattern) × len(text) and does not allocate.
func Match(pattern, text string) bool {
	g, t := 0, 0
	star, mark := -1, 0
	for t < len(text) {
		switch {
		case g < len(pattern) && pattern[g] == '*':
			star, mark = g, t
			g++
		case g < len(pattern) && (pattern[g] == '?' || pattern[g] == text[t]):
			g++
			t++
		case star >= 0:
			mark++
			g, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[g:], "*") == ""
}
