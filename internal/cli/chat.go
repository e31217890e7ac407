package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// maxChatError bounds how much of a refusal is read.
const maxChatError = 1 << 20

// maxRest bounds what is read behind the last event of a stream.
const maxRest = 64 << 10

// ChatOptions is what a conversation begins with.
type ChatOptions struct {
	Model       string
	System      string
	Temperature *float64
	MaxTokens   int  // 0: the provider's own
	NoStream    bool // wait for the whole answer
	Terminal    bool // the answer goes to a terminal, which must not be steered by it
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Chat is a conversation through the proxy's /v1/chat/completions.
type Chat struct {
	conn    *connection
	out     Output
	opt     ChatOptions
	history []message
	ends    bool // what was printed last ends a line
}

// NewChat begins a conversation with a client token.
func NewChat(address string, token secret.Value, trust Trust, out Output, opt ChatOptions) (*Chat, error) {
	if opt.Model == "" {
		return nil, Usagef("--model: expected the name of a model")
	}
	if opt.MaxTokens < 0 {
		return nil, Usagef("--max-tokens: expected a positive number")
	}
	conn, err := newConnection(address, token, trust)
	if err != nil {
		return nil, err
	}
	c := &Chat{conn: conn, out: out, opt: opt}
	return c, nil
}

// InClear reports whether the token would leave this machine unencrypted.
func (c *Chat) InClear() bool { return c.conn.inClear() }

// Ask sends the conversation with one more question and prints the answer. When
// ctx ends, what has been answered so far remains part of the conversation.
func (c *Chat) Ask(ctx context.Context, question string) error {
	asked := append(c.history, message{"user", question})
	answer, err := c.complete(ctx, asked)
	if answer != "" && (err == nil || errors.Is(err, context.Canceled)) {
		c.history = append(asked, message{"assistant", answer})
	}
	return err
}

// request is the body of a call.
func (c *Chat) request(messages []message, stream bool) Fields {
	if c.opt.System != "" {
		messages = append([]message{{"system", c.opt.System}}, messages...)
	}
	f := Fields{"model": c.opt.Model, "messages": messages}
	if stream {
		f["stream"] = true
	}
	if c.opt.Temperature != nil {
		f["temperature"] = *c.opt.Temperature
	}
	if c.opt.MaxTokens > 0 {
		f["max_tokens"] = c.opt.MaxTokens
	}
	return f
}

func (c *Chat) complete(ctx context.Context, messages []message) (answer string, err error) {
	stream := !c.opt.NoStream && !c.out.JSON
	if !stream {
		// Without a stream nothing tells that the model is at work.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wholeAnswerTimeout)
		defer cancel()
	}
	res, err := c.conn.send(ctx, http.MethodPost, "/v1/chat/completions", nil, c.request(messages, stream))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		data, _ := io.ReadAll(io.LimitReader(res.Body, maxChatError)) // half a refusal is better than none
		return "", fmt.Errorf("%d %w", res.StatusCode, chatRefusal(res, data))
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return c.readStream(ctx, res)
	}
	return c.readWhole(ctx, res)
}

// piece is a completion or a chunk of one, as far as it is shown.
type piece struct {
	Choices []struct {
		Index          int
		Message, Delta struct{ Content, Refusal string }
		FinishReason   string `json:"finish_reason"`
	}
	Error json.RawMessage
}

// text is what the first choice says.
func (p *piece) text() (text string, finished bool) {
	for _, choice := range p.Choices {
		if choice.Index == 0 {
			text += choice.Message.Content + choice.Message.Refusal + choice.Delta.Content + choice.Delta.Refusal
			finished = finished || choice.FinishReason != ""
		}
	}
	return text, finished
}

func (c *Chat) readStream(ctx context.Context, res *http.Response) (string, error) {
	var answer strings.Builder
	finished := false
	c.ends = true
	defer c.endLine()
	for data, err := range events(res.Body) {
		if err != nil {
			return answer.String(), c.brokeOff(ctx, res, err)
		}
		if bytes.Equal(bytes.TrimSpace(data), []byte("[DONE]")) {
			// Who hangs up before the very end looks as if it had not got everything.
			_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxRest))
			return answer.String(), nil
		}
		var p piece
		if json.Unmarshal(data, &p) != nil {
			return answer.String(), fmt.Errorf("the stream holds something that is not a chat completion%s", requestID(res))
		}
		if len(p.Error) > 0 && string(p.Error) != "null" {
			return answer.String(), chatRefusal(res, data)
		}
		text, last := p.text()
		finished = finished || last
		answer.WriteString(text)
		if err := c.print(text); err != nil {
			return answer.String(), err
		}
	}
	if !finished {
		return answer.String(), c.brokeOff(ctx, res, io.ErrUnexpectedEOF)
	}
	return answer.String(), nil
}

func (c *Chat) readWhole(ctx context.Context, res *http.Response) (string, error) {
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", c.brokeOff(ctx, res, err)
	}
	var p piece
	if json.Unmarshal(data, &p) != nil || len(p.Choices) == 0 {
		return "", fmt.Errorf("the answer is not a chat completion: the site needs llm_proxy, or --url another address%s", requestID(res))
	}
	text, _ := p.text()
	if c.out.JSON {
		return text, c.out.document(data)
	}
	c.ends = true
	defer c.endLine()
	return text, c.print(text)
}

func (c *Chat) print(text string) error {
	if c.opt.Terminal {
		text = strings.Map(func(r rune) rune {
			if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
				return -1
			}
			return r
		}, text)
	}
	if text == "" {
		return nil
	}
	c.ends = strings.HasSuffix(text, "\n")
	_, err := io.WriteString(c.out.Out, text)
	return err
}

func (c *Chat) endLine() {
	if !c.ends {
		_, _ = io.WriteString(c.out.Out, "\n") // the answer itself was written
	}
}

func (c *Chat) brokeOff(ctx context.Context, res *http.Response, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return fmt.Errorf("the answer broke off: %w%s", err, requestID(res))
}

// chatRefusal turns an error of the proxy or of the provider into one line.
func chatRefusal(res *http.Response, data []byte) error {
	var body struct{ Error json.RawMessage }
	var detail struct {
		Message string
		Code    any
		Type    string
	}
	text := http.StatusText(res.StatusCode)
	if json.Unmarshal(data, &body) == nil && json.Unmarshal(body.Error, &detail) == nil && detail.Message != "" {
		text = detail.Message
	}
	kind := detail.Type
	if code, ok := detail.Code.(string); ok && code != "" {
		kind = code
	}
	if kind != "" {
		text = kind + ": " + text
	}
	return errors.New(OneLine(text) + requestID(res))
}

func requestID(res *http.Response) string {
	for _, name := range []string{"X-LLM-Proxy-Request-Id", "X-Request-Id"} {
		if id := OneLine(res.Header.Get(name)); id != "" {
			return " (request id " + id + ")"
		}
	}
	return ""
}
