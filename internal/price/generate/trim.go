package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
)

// minAudioMillis are minima that the package's code knows, rather than its table.
var minAudioMillis = map[string]int64{
	"groq/whisper-large-v3":       10_000,
	"groq/whisper-large-v3-turbo": 10_000,
}

// trim leaves what is needed to price a call.
func trim(table []any) ([]any, error) {
	var out []any
	for _, entry := range table {
		provider, err := object(entry)
		if err != nil {
			return nil, err
		}
		trimmed, err := trimProvider(provider)
		if err != nil {
			return nil, fmt.Errorf("%v > %w", provider["id"], err)
		}
		out = append(out, trimmed)
	}
	return out, nil
}

func trimProvider(provider map[string]any) (map[string]any, error) {
	models, ok := provider["models"].([]any)
	if !ok {
		return nil, fmt.Errorf("models: expected an array")
	}
	var list []any
	for _, entry := range models {
		model, err := object(entry)
		if err != nil {
			return nil, err
		}
		trimmed, err := trimModel(fmt.Sprint(provider["id"], "/", model["id"]), model)
		if err != nil {
			return nil, fmt.Errorf("%v > %w", model["id"], err)
		}
		list = append(list, trimmed)
	}
	trimmed := map[string]any{"id": provider["id"], "models": list}
	copyMembers(trimmed, provider, "fallback_model_providers")
	return trimmed, nil
}

func trimModel(id string, model map[string]any) (map[string]any, error) {
	rule, err := trimMatch(model["match"])
	if err != nil {
		return nil, err
	}
	trimmed := map[string]any{"id": model["id"], "match": rule}
	copyMembers(trimmed, model, "context_window")
	if n, ok := minAudioMillis[id]; ok {
		trimmed["min_audio_millis"] = n
	}
	conditional, ok := model["prices"].([]any)
	if !ok {
		conditional = []any{map[string]any{"prices": model["prices"]}}
	}
	list := []any{}
	for _, entry := range conditional {
		price, err := object(entry)
		if err != nil {
			return nil, err
		}
		members, err := object(price["prices"])
		if err != nil {
			return nil, fmt.Errorf("prices: %w", err)
		}
		if len(members) == 0 && len(conditional) == 1 {
			break // known, but without a price
		}
		kept := map[string]any{"prices": round(members)}
		copyMembers(kept, price, "constraint")
		list = append(list, kept)
	}
	trimmed["prices"] = list
	return trimmed, nil
}

// lookahead is a regular expression that refuses something at the start, which
// Go's cannot say.
var lookahead = regexp.MustCompile(`^\^\(\?!(.*)\)$`)

// trimMatch turns what Go's regular expressions cannot say into rules.
func trimMatch(value any) (any, error) {
	rule, err := object(value)
	if err != nil {
		return nil, fmt.Errorf("match: %w", err)
	}
	for _, key := range []string{"or", "and"} {
		if list, ok := rule[key].([]any); ok {
			var trimmed []any
			for _, x := range list {
				t, err := trimMatch(x)
				if err != nil {
					return nil, err
				}
				trimmed = append(trimmed, t)
			}
			return map[string]any{key: trimmed}, nil
		}
	}
	text, ok := rule["regex"].(string)
	if !ok {
		return rule, nil
	}
	if m := lookahead.FindStringSubmatch(text); m != nil {
		if _, err := regexp.Compile(m[1]); err != nil { // such as a)b(c, from ^(?!a)b(c)
			return nil, fmt.Errorf("match: %q: %w", text, err)
		}
		return map[string]any{"not": map[string]any{"regex": "^(?:" + m[1] + ")"}}, nil
	}
	if _, err := regexp.Compile(text); err != nil {
		return nil, fmt.Errorf("match: %w", err)
	}
	return rule, nil
}

// places of a decimal that mean something: picodollars for a million tokens.
// Some prices come from divisions in floating point, such as 0.08333333333333334.
const places = 12

// round rounds all numbers, half up, leaving the rest as it is.
func round(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = round(x)
		}
		return out
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = round(out[i])
		}
		return out
	case json.Number:
		r, ok := new(big.Rat).SetString(string(v))
		if !ok {
			return v // the check of the whole will say what is wrong
		}
		text := r.FloatString(places)
		return json.Number(strings.TrimSuffix(strings.TrimRight(text, "0"), "."))
	}
	return value
}

func copyMembers(to, from map[string]any, members ...string) {
	for _, m := range members {
		if value, ok := from[m]; ok {
			to[m] = value
		}
	}
}

func object(value any) (map[string]any, error) {
	o, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("expected an object, found %T", value)
	}
	return o, nil
}
