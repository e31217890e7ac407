package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// dialect is a provider's way of asking and of speaking of errors.
type dialect string

const (
	openAIDialect    dialect = "openai"
	anthropicDialect dialect = "anthropic"
	geminiDialect    dialect = "gemini"
)

var allDialects = []dialect{openAIDialect, anthropicDialect, geminiDialect}

// ask is a good request to a provider of the dialect.
func (d dialect) ask(provider, token, model string, stream bool) request {
	r := request{path: "/" + provider + "/chat/completions", token: token, body: chatBody(model, stream)}
	switch d {
	case anthropicDialect:
		r.path, r.body = "/"+provider+"/v1/messages", messagesBody(model, stream)
		r.header = http.Header{"Anthropic-Version": {"2023-06-01"}}
	case geminiDialect:
		r.path, r.body = "/"+provider+"/v1beta/models/"+model+":generateContent", generateBody
		if stream {
			r.path = "/" + provider + "/v1beta/models/" + model + ":streamGenerateContent?alt=sse"
		}
	}
	return r
}

// problem is an error as a client's SDK reads it.
type problem struct {
	code, message, kind, id string
	status                  int // in the body, Gemini's only
}

// read decodes an error in the dialect.
func (d dialect) read(body string) (problem, error) {
	var p problem
	var err error
	switch d {
	case openAIDialect:
		var v struct {
			Error struct {
				Message, Type, Code string
				Param               *string
			}
		}
		err = json.Unmarshal([]byte(body), &v)
		p = problem{code: v.Error.Code, message: v.Error.Message, kind: v.Error.Type}
	case anthropicDialect:
		var v struct {
			Type      string
			RequestID string `json:"request_id"`
			Error     struct{ Type, Message, Code string }
		}
		if err = json.Unmarshal([]byte(body), &v); err == nil && v.Type != "error" {
			err = fmt.Errorf("type is %q", v.Type)
		}
		p = problem{code: v.Error.Code, message: v.Error.Message, kind: v.Error.Type, id: v.RequestID}
	case geminiDialect:
		var v struct {
			Error struct {
				Code            int
				Message, Status string
				Details         []struct{ Reason string }
			}
		}
		err = json.Unmarshal([]byte(body), &v)
		p = problem{message: v.Error.Message, kind: v.Error.Status, status: v.Error.Code}
		if len(v.Error.Details) > 0 {
			p.code = v.Error.Details[0].Reason
		}
	}
	if err == nil && (p.message == "" || p.kind == "") {
		err = fmt.Errorf("no message or type")
	}
	return p, err
}

// refused checks an error answer of ours: status, code and headers.
func (d dialect) refused(t *testing.T, got answer, status int, code string) problem {
	t.Helper()
	if got.status != status {
		t.Errorf("status %d, want %d: %s", got.status, status, got.body)
	}
	p, err := d.read(got.body)
	if err != nil {
		t.Fatalf("not an error of %s: %v: %s", d, err, got.body)
	}
	if p.code != code {
		t.Errorf("code %q, want %q: %s", p.code, code, got.body)
	}
	if d == geminiDialect && p.status != status {
		t.Errorf("error.code %d, want %d", p.status, status)
	}
	id := got.header.Get("X-Request-Id")
	if id == "" || got.header.Get("Request-Id") != id {
		t.Errorf("X-Request-Id %q, Request-Id %q", id, got.header.Get("Request-Id"))
	}
	if d == anthropicDialect && p.id != id {
		t.Errorf("request_id %q, X-Request-Id %q", p.id, id)
	}
	if kind := got.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("Content-Type %q", kind)
	}
	if got.err != nil {
		t.Errorf("the answer breaks off: %v", got.err)
	}
	return p
}

// event is the data of the last server-sent event in a stream.
func lastEvent(stream string) string {
	events := strings.Split(strings.TrimSpace(stream), "\n\n")
	_, data, _ := strings.Cut(events[len(events)-1], "data: ")
	return data
}
