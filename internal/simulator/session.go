package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json/jsontext"
)

// session is one realtime conversation.
type session struct {
	c      *call
	conn   *websocket.Conn
	model  string
	order  behaviour
	talk   prompt // the conversation so far
	events int
}

// clientEvent is what matters of an event the client sends.
type clientEvent struct {
	Type    string         `json:"type"`
	EventID string         `json:"event_id"`
	Session jsontext.Value `json:"session"`
	Item    struct {
		ID      string  `json:"id"`
		Role    string  `json:"role"`
		Content content `json:"content"`
	} `json:"item"`
}

// errAborted ends a session whose model orders it.
var errAborted = errors.New("aborted by order")

// send emits a server event.
func (s *session) send(ctx context.Context, name string, members ...any) error {
	s.events++
	o := append(object{"type", name, "event_id", fmt.Sprintf("event_%06d", s.events)}, members...)
	return s.conn.Write(ctx, websocket.MessageText, encode(o))
}

func (s *session) created(ctx context.Context) error {
	return s.send(ctx, "session.created", "session", s.session())
}

func (s *session) session() object {
	return object{
		"type", "realtime", "object", "realtime.session", "id", s.c.id("sess_"), "model", s.model,
		"output_modalities", list{"text"}, "instructions", "", "tools", list{}, "tool_choice", "auto",
	}
}

// answer handles one message. What is not a JSON event is sent back as it is,
// which shows whether a gateway keeps messages whole.
func (s *session) answer(ctx context.Context, m message) error {
	var ev clientEvent
	if m.kind != websocket.MessageText || json.Unmarshal(m.data, &ev) != nil {
		return s.conn.Write(ctx, m.kind, m.data)
	}
	switch ev.Type {
	case "session.update":
		return s.send(ctx, "session.updated", "session", s.session())
	case "conversation.item.create":
		return s.itemCreated(ctx, ev)
	case "response.create":
		return s.respond(ctx)
	}
	return s.failed(ctx, problem{
		code: "invalid_value", param: "type", message: "Invalid value: '" + ev.Type + "'.",
	}, ev.EventID)
}

func (s *session) failed(ctx context.Context, p problem, eventID string) error {
	return s.send(ctx, "error", "error", object{
		"type", openAIKind(p.status), "code", orNull(p.code), "message", p.message,
		"param", orNull(p.param), "event_id", orNull(eventID),
	})
}

func (s *session) itemCreated(ctx context.Context, ev clientEvent) error {
	s.talk.say(ev.Item.Role, ev.Item.Content.text)
	id := ev.Item.ID
	if id == "" {
		id = fmt.Sprintf("item_%06d", s.events+1)
	}
	return s.send(ctx, "conversation.item.created", "previous_item_id", nil, "item", object{
		"id", id, "object", "realtime.item", "type", "message", "status", "completed",
		"role", ev.Item.Role, "content", list{object{"type", "input_text", "text", ev.Item.Content.text}},
	})
}

// respond gives one answer, with the faults that concern streams.
func (s *session) respond(ctx context.Context) error {
	s.talk.model, s.talk.choices = s.model, 1
	a := s.c.compose(&s.talk, s.order)
	a.id = fmt.Sprintf("resp_%06d", s.events+1)
	itemID := fmt.Sprintf("item_%06d", s.events+1)
	at := []any{"response_id", a.id, "item_id", itemID, "output_index", 0, "content_index", 0}

	s.c.s.stats.tokens(a.usage.prompt, 0)
	if err := s.send(ctx, "response.created", "response", s.response(a, "in_progress", list{}, nil)); err != nil {
		return err
	}
	half := (len(a.pieces) + 1) / 2
	for i, piece := range a.pieces {
		if i > 0 && !sleep(ctx, s.order.pace) {
			return ctx.Err()
		}
		s.c.s.stats.tokens(0, a.emitted(i+1)-a.emitted(i))
		if err := s.send(ctx, "response.output_text.delta", append(at[:len(at):len(at)], "delta", piece)...); err != nil {
			return err
		}
		if i+1 != half {
			continue
		}
		switch {
		case s.order.abort, s.order.truncate:
			return errAborted
		case s.order.errorMidstream:
			return s.failed(ctx, injected(http.StatusInternalServerError), "")
		case !sleep(ctx, s.order.silent):
			return ctx.Err()
		}
	}
	if err := s.send(ctx, "response.output_text.done", append(at[:len(at):len(at)], "text", a.text())...); err != nil {
		return err
	}
	item := object{
		"id", itemID, "object", "realtime.item", "type", "message", "status", "completed", "role", "assistant",
		"content", list{object{"type", "output_text", "text", a.text()}},
	}
	return s.send(ctx, "response.done", "response", s.response(a, "completed", list{item}, a.usage.realtimeUsage()))
}

func (s *session) response(a *answer, status string, output list, usage any) object {
	return object{
		"object", "realtime.response", "id", a.id, "status", status, "status_details", nil, "output", output,
	}.with(!a.noUsage, "usage", usage)
}
