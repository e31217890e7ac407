package simulator

import (
	"context"

	"github.com/coder/websocket"
)

// maxMessage bounds a WebSocket message; a minute of audio is below 4 MiB.
const maxMessage = 16 << 20

// realtime answers GET /v1/realtime with a WebSocket session, see
// https://platform.openai.com/docs/guides/realtime. Faults that concern the
// beginning of an answer come before the upgrade.
func (c *call) realtime() {
	model := c.r.URL.Query().Get("model")
	if !c.require("model", model != "") {
		return
	}
	c.seed([]byte(model))
	b, ok := c.begin(model, 0)
	if !ok {
		return
	}
	c.stamp()
	conn, err := websocket.Accept(c.w, c.r, &websocket.AcceptOptions{
		Subprotocols: []string{"realtime"},
		// Sessions are authenticated by key, never by cookie, so that a
		// foreign page has nothing to ride on.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxMessage)
	c.s.stats.update(func(s *Stats) { s.WebSocketSessions++ })

	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	session := &session{c: c, conn: conn, model: model, order: b}
	session.serve(ctx, cancel)
}

// message is one WebSocket message.
type message struct {
	kind websocket.MessageType
	data []byte
}

// serve reads in one goroutine, so that pings are answered and a close is
// noticed while an answer is being given, and answers in this one.
func (s *session) serve(ctx context.Context, cancel context.CancelFunc) {
	incoming := make(chan message)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		defer cancel()
		for {
			kind, data, err := s.conn.Read(ctx)
			if err != nil {
				return
			}
			select {
			case incoming <- message{kind, data}:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		_ = s.conn.CloseNow()
		<-finished
	}()

	if s.created(ctx) != nil {
		return
	}
	for {
		select {
		case m := <-incoming:
			if s.answer(ctx, m) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
