package cachetests

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

//go:embed data/tests.json
var definitions []byte

// Suite is a group of tests on one subject.
type Suite struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Tests []Test `json:"tests"`
}

// Test is one script. Kind is required, optimal (a good cache does this) or check
// (there is no right answer).
type Test struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	BrowserOnly bool   `json:"browser_only"`
	Steps       []Step `json:"requests"`
}

// Step is one request, the answer to it, and what is expected of both.
type Step struct {
	Method         string   `json:"request_method"`
	RequestHeader  []Field  `json:"request_headers"`
	RequestBody    string   `json:"request_body"`
	Query          string   `json:"query_arg"`
	File           string   `json:"filename"`
	Pause          bool     `json:"pause_after"`
	Disconnect     bool     `json:"disconnect"`
	MagicLocations bool     `json:"magic_locations"`
	MagicIMS       bool     `json:"magic_ims"`
	RFC850         []string `json:"rfc850date"`

	Status         *Status `json:"response_status"`
	ResponseHeader []Field `json:"response_headers"`
	ResponseBody   *string `json:"response_body"`

	ExpectedType           string  `json:"expected_type"`
	ExpectedMethod         string  `json:"expected_method"`
	ExpectedStatus         int     `json:"expected_status"`
	ExpectedRequestHeader  []Field `json:"expected_request_headers"`
	ExpectedResponseHeader []Field `json:"expected_response_headers"`
	ExpectedMissing        []Field `json:"expected_response_headers_missing"`
	ExpectedText           Text    `json:"expected_response_text"`
	CheckBody              *bool   `json:"check_body"`

	Setup      bool     `json:"setup"`
	SetupTests []string `json:"setup_tests"`
}

// Status is a response's code and phrase.
type Status struct {
	Code   int
	Phrase string
}

func (s *Status) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&s.Code, &s.Phrase})
}

// Text is a string that may be there as null: then anything is right.
type Text struct {
	Set   bool
	Value *string
}

func (t *Text) UnmarshalJSON(b []byte) error {
	t.Set = true
	return json.Unmarshal(b, &t.Value)
}

// Field is a header field of a definition: a name alone, or a name with a value.
// A number stands for a date so many seconds from the origin's present.
type Field struct {
	Name     string
	HasValue bool
	Value    string
	Delta    *int64
	Operator string // = or >, before Value or Delta
	Unsaved  bool   // not compared with what the client got
}

func (f *Field) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		return json.Unmarshal(b, &f.Name)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) < 2 || len(parts) > 3 {
		return fmt.Errorf("a header field of %d parts", len(parts))
	}
	if err := json.Unmarshal(parts[0], &f.Name); err != nil {
		return err
	}
	f.HasValue = true
	value := parts[1]
	if len(parts) == 3 {
		var saved bool
		if json.Unmarshal(parts[2], &saved) == nil {
			f.Unsaved = !saved
		} else {
			if err := json.Unmarshal(parts[1], &f.Operator); err != nil {
				return err
			}
			value = parts[2]
		}
	}
	if value[0] == '"' {
		return json.Unmarshal(value, &f.Value)
	}
	f.Delta = new(int64)
	return json.Unmarshal(value, f.Delta)
}

// Suites returns all tests.
func Suites() []Suite {
	var out []Suite
	if err := json.Unmarshal(definitions, &out); err != nil {
		panic(fmt.Sprintf("the embedded definitions are damaged: %v", err)) // they are part of the binary
	}
	return out
}

// Tests returns the tests of a kind that are not for browsers alone.
func Tests(kind string) []Test {
	var out []Test
	for _, s := range Suites() {
		for _, t := range s.Tests {
			if t.Kind == kind && !t.BrowserOnly {
				out = append(out, t)
			}
		}
	}
	return out
}

// Safety reports whether the test fails when a response is reused that must not be.
func (t *Test) Safety() bool {
	for _, s := range t.Steps {
		if s.ExpectedType == "not_cached" {
			return true
		}
	}
	return false
}

func (s *Step) method() string {
	if s.Method == "" {
		return http.MethodGet
	}
	return s.Method
}

// setup reports whether the expectation only prepares for what the test is about.
func (s *Step) setup(expectation string) bool {
	if s.Setup {
		return true
	}
	for _, e := range s.SetupTests {
		if e == expectation {
			return true
		}
	}
	return false
}

func (s *Step) validated() bool { return strings.HasSuffix(s.ExpectedType, "validated") }

func bodiless(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified
}
