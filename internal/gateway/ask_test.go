package gateway

import (
	"math"
	"testing"
)

// TestAsk reads what bodies ask for.
func TestAsk(t *testing.T) {
	limit := func(n int64) tokenLimit { return tokenLimit(n + 1) }
	for body, want := range map[string]ask{
		`{}`: {},
		`{"max_tokens":100,"max_completion_tokens":7,"max_output_tokens":0}`: {output: limit(100), completion: limit(7), answer: limit(0)},
		`{"max_tokens":1e3}`:                             {output: limit(1000)},
		`{"max_tokens":10.5}`:                            {output: limit(11)},
		`{"max_tokens":1e300}`:                           {}, // beyond any number: it does not say
		`{"max_tokens":-5}`:                              {},
		`{"max_tokens":"9"}`:                             {},
		`{"max_tokens":null}`:                            {},
		`{"max_tokens":5,"max_tokens":9,"max_tokens":7}`: {output: limit(9)},
		`{"max_\u0074okens":5}`:                          {output: limit(5)},
		`{"n":3,"best_of":5}`:                            {choices: 5},
		`{"prompt":"text"}`:                              {},
		`{"prompt":["a","b","c"],"n":2}`:                 {choices: 2, prompts: 3},
		`{"prompt":[1,2,3]}`:                             {},
		`{"prompt":[[1,2],[3]]}`:                         {prompts: 2},
		`{"prompt":{"id":"p"}}`:                          {stored: true},
		`{"previous_response_id":"r"}`:                   {stored: true},
		`{"previous_response_id":null}`:                  {},
		`{"cachedContent":"c"}`:                          {stored: true},
		`{"service_tier":"pri\u006frity"}`:               {tier: "priority"},
		`{"background":true}`:                            {background: true},
		`{"background":false}`:                           {},
		`{"prediction":{}}`:                              {predicted: true},
		`{"web_search_options":{}}`:                      {tools: true, unbounded: true},
		`{"models":["a","b"]}`:                           {tools: true, unbounded: true},
		`{"speed":"fast"}`:                               {tools: true, unbounded: true},
		`{"speed":"standard"}`:                           {},
		`{"speed":null}`:                                 {},
		`{"inference_geo":"us"}`:                         {tools: true, unbounded: true},
		`{"inference_geo":"global"}`:                     {},
		`{"tools":[]}`:                                   {},
		`{"tools":[{"type":"function","function":{"name":"f"}},{"type":"custom","name":"c"}]}`:                       {equipped: true},
		`{"tools":[{"name":"f","input_schema":{},"description":"d"}]}`:                                               {equipped: true},
		`{"tools":[{"type":"bash_20250124","name":"bash"}]}`:                                                         {equipped: true},
		`{"tools":[{"functionDeclarations":[{}]}]}`:                                                                  {equipped: true},
		`{"tools":[{"googleSearch":{}}]}`:                                                                            {equipped: true, tools: true, unbounded: true},
		`{"tools":[{"functionDeclarations":[{}],"codeExecution":{}}]}`:                                               {equipped: true, tools: true, unbounded: true},
		`{"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":3}]}`:                                {equipped: true, tools: true, searches: 3},
		`{"tools":[{"type":"web_search"}],"max_tool_calls":2}`:                                                       {equipped: true, tools: true, searches: 2},
		`{"tools":[{"type":"web_search"}]}`:                                                                          {equipped: true, tools: true},
		`{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}`:                                        {equipped: true, tools: true, unbounded: true},
		`{"generationConfig":{"maxOutputTokens":64,"candidateCount":2},"generation_config":{"max_output_tokens":9}}`: {generation: limit(64), choices: 2},
	} {
		var got ask
		if _, problem := inspectJSON([]byte(body), nil, &got); problem != scanOK {
			t.Errorf("%s: problem %d", body, problem)
		}
		if got != want {
			t.Errorf("%s:\n%+v, want\n%+v", body, got, want)
		}
	}
}

// TestHasMedia: anything but text is found, however its name is written.
func TestHasMedia(t *testing.T) {
	for body, want := range map[string]bool{
		`{"messages":[{"role":"user","content":"an image of a file at a url"}]}`: false,
		`{"messages":[{"content":"caf\u00e9"}]}`:                                 false,
		`{"tools":[{"parameters":{"properties":{"file_path":{}}}}]}`:             false,
		`{"messages":[{"content":[{"type":"text","text":"x"}]}]}`:                false,
		`{"messages":[{"content":[{"type":"image_url","image_url":{}}]}]}`:       true,
		`{"messages":[{"content":[{"type":"image","source":{"data":""}}]}]}`:     true,
		`{"contents":[{"parts":[{"inlineData":{}}]}]}`:                           true,
		`{"contents":[{"parts":[{"inline\u0044ata":{}}]}]}`:                      true,
		`{"contents":[{"parts":[{"file\u0044ata":{"fileUr\u0069":"x"}}]}]}`:      true,
		`{"modalities":["text","audio"]}`:                                        true,
		`{"input":[{"type":"input_file","file_id":"x"}]}`:                        true,
		`{"input":[{"type":"item_reference","id":"x"}]}`:                         true,
		`{"user":"`: false,
	} {
		if got := hasMedia([]byte(body)); got != want {
			t.Errorf("%s: %t", body, got)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, tc := range [][3]int64{{0, math.MaxInt64, 0}, {3, 4, 12}, {math.MaxInt64, 2, maxProduct}, {1 << 40, 1 << 40, maxProduct}, {1, maxProduct, maxProduct}} {
		if got := times(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%d times %d: %d", tc[0], tc[1], got)
		}
	}
}

// FuzzAsk: no body makes the reader fail, or say that less is asked for than in a
// body with one limit more.
func FuzzAsk(f *testing.F) {
	for _, seed := range []string{`{"max_tokens":1}`, `{"tools":[{"type":"x","max_uses":9}]}`, `{"generationConfig":{"maxOutputTokens":3}}`, `{"prompt":[["a"],"b",[1]]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var a ask
		_, problem := inspectJSON(body, nil, &a)
		hasMedia(body)
		if n, says := a.output.value(); says && n < 0 || a.answers() < 1 || a.searches < 0 {
			t.Fatalf("%q: %+v", body, a)
		}
		if problem != scanOK {
			return
		}
		var b ask
		more := append([]byte(`{"max_tokens":77,`), body[1:]...)
		if _, problem := inspectJSON(more, nil, &b); problem == scanOK {
			if n, says := b.output.value(); !says || n < 77 {
				t.Fatalf("%q: %+v", more, b)
			}
		}
	})
}
