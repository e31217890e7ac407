package capture

import "strings"

// prefixes of tokens and keys, and how many characters of those that keys are made of
// follow at least. A prefix that is also a part of words counts at the beginning of one only,
// or if what follows looks random.
var prefixes = []struct {
	text  string
	least int
	word  bool
}{
	{"sk-wt-", 8, false},   // ours
	{"sk-proj-", 8, false}, // OpenAI
	{"sk-svcacct-", 8, false},
	{"sk-admin-", 8, false},
	{"sk-ant-", 8, false},   // Anthropic
	{"sk-or-v1-", 8, false}, // OpenRouter
	{"sk-", 20, true},       // legacy tokens, OpenAI's older keys, DeepSeek and many others
	{"AIza", 30, false},     // Google
	{"AQ.", 30, true},       // Google's newer keys
	{"ya29.", 20, true},     // Google, OAuth
	{"gsk_", 20, true},      // Groq
	{"xai-", 20, true},      // xAI
	{"pplx-", 20, true},     // Perplexity
	{"nvapi-", 20, true},    // NVIDIA
	{"hf_", 20, true},       // Hugging Face
	{"r8_", 20, true},       // Replicate
	{"fw_", 20, true},       // Fireworks
	{"tgp_v1_", 20, false},  // Together
	{"csk-", 20, true},      // Cerebras
	{"ABSK", 40, true},      // Bedrock
	{"AKIA", 16, false},     // AWS
	{"whsec_", 20, false},   // webhooks' signing secrets, ours among them
}

// seconds are the bytes with which prefixes go on, by the first: enough to pass over
// nearly everything.
var seconds = func() (set [256]string) {
	for _, p := range prefixes {
		set[p.text[0]] += p.text[1:2]
	}
	return set
}()

// secrets appends where s has what looks like a token or a provider's key. If s is
// cut, the beginning of one at its end is enough.
func secrets(spans []span, s string, cut bool) []span {
	for i := 0; i+1 < len(s); i++ {
		if next := seconds[s[i]]; next == "" || strings.IndexByte(next, s[i+1]) < 0 {
			continue
		}
		if n := secretAt(s, i, cut); n > 0 {
			spans = append(spans, span{i, i + n})
			i += n - 1
		}
	}
	return spans
}

// enough characters tell a key; more are not looked at again and again.
const enough = 64

// secretAt is the length of the secret that begins at i, or 0.
func secretAt(s string, i int, cut bool) int {
	for _, p := range prefixes {
		if !strings.HasPrefix(s[i:], p.text) {
			continue
		}
		from := i + len(p.text)
		to := from
		for to < min(len(s), from+enough) && isKeyChar(s[to]) {
			to++
		}
		if to-from < p.least && !(cut && to == len(s)) {
			continue
		}
		if p.word && !beginsWord(s, i) && !looksRandom(s[from:to]) {
			continue
		}
		for to < len(s) && base64Chars[s[to]] { // some keys are base64
			to++
		}
		return to - i
	}
	return 0
}

// beginsWord reports whether what is at i follows neither a letter nor a digit, other than
// those of an escape: texts in texts have them, and URLs.
func beginsWord(s string, i int) bool {
	return i == 0 || !isAlphanumeric(s[i-1]) || i > 1 && s[i-2] == '\\' || i > 2 && s[i-3] == '%'
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isKeyChar(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' }

// looksRandom tells a key from words with hyphens: it has small and capital letters,
// and digits.
func looksRandom(s string) bool {
	var small, capital, digit bool
	for i := range len(s) {
		small = small || s[i] >= 'a' && s[i] <= 'z'
		capital = capital || s[i] >= 'A' && s[i] <= 'Z'
		digit = digit || s[i] >= '0' && s[i] <= '9'
	}
	return small && capital && digit
}
