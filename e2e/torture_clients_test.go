package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wordsAsked is how long an answer may be, and is: what a request costs is known
// before it is sent.
const (
	wordsAsked = 24
	promptCost = 2 // tokens of "hello"
)

var priceOfOne = costOf(promptCost, wordsAsked)

// limited is a token with a limit, and those who send requests with it.
type limited struct {
	account *account
	book    *book // what the provider has seen of it
	header  http.Header
	models  []string      // in turn; those that take their time stream their answers
	pause   time.Duration // of a client, between an answer and its next request
	leaving int           // every so manieth stream is left by its client; 0: none
	until   string        // a client that is told this asks no more
	paths   []string      // in turn; none: that of chat completions

	allowed atomic.Int64 // requests at the provider after which the clients wait
	answers outcomes
}

// outcomes counts answers by status and code.
type outcomes struct {
	mu sync.Mutex
	n  map[string]int
}

func (o *outcomes) add(kind string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n == nil {
		o.n = make(map[string]int)
	}
	o.n[kind]++
}

func (o *outcomes) of(kind string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n[kind]
}

func (o *outcomes) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprint(o.n)
}

const (
	answered = "200"
	noAnswer = "none" // the node is not there, or no longer
)

// limitedBody is a chat completion of a known cost that says when it was sent.
func limitedBody(model string, sent time.Duration) string {
	return fmt.Sprintf(`{"model":%q,"stream":%t,"max_tokens":%d,"metadata":{"sent":"%019d"},"messages":[{"role":"user","content":"hello"}]}`,
		model, strings.Contains(model, "pace"), wordsAsked, sent)
}

// crowd has n clients send the token's requests to the nodes until ctx ends, or they
// are told to end. They obey no other answer: who is refused asks again.
func (l *limited) crowd(t *testing.T, ctx context.Context, all *sync.WaitGroup, w *witness, nodes []*proxy, clients []*http.Client, n int) {
	for i := range n {
		node, client := nodes[i%len(nodes)], clients[i%len(nodes)]
		all.Go(func() {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for turn := i; ; turn++ {
				select {
				case <-ctx.Done():
					return
				case <-timer.C:
				}
				if int64(l.book.count()) < l.allowed.Load() {
					told := l.ask(t, ctx, w, node, client, turn)
					l.answers.add(told)
					if told == l.until {
						return
					}
				}
				timer.Reset(l.pause)
			}
		})
	}
}

// ask sends one request and says what came of it.
func (l *limited) ask(t *testing.T, ctx context.Context, w *witness, node *proxy, client *http.Client, turn int) string {
	model, path := l.models[turn%len(l.models)], "/v1/chat/completions"
	if len(l.paths) > 0 {
		path = l.paths[turn%len(l.paths)]
	}
	req := node.build(t, ctx, request{
		path: path, token: l.account.token, header: l.header, body: limitedBody(model, w.now()),
	})
	resp, err := client.Do(req)
	if err != nil {
		return noAnswer
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusalOf(resp)
	}
	if l.leaving > 0 && turn%l.leaving == 0 && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err == nil {
			return "left"
		}
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return noAnswer
	}
	return answered
}

// refusalOf is the status and code of an answer, with the limit that it names.
func refusalOf(resp *http.Response) string {
	var body struct {
		Error struct {
			Code     string
			Metadata struct{ Limit string }
		}
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&body); err != nil {
		return noAnswer
	}
	return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", body.Error.Code, " ", body.Error.Metadata.Limit))
}

// The refusals that there may be.
const (
	rateRefused  = "429 rate_limit_exceeded requests"
	slotsRefused = "429 rate_limit_exceeded concurrency"
	limiterAway  = "503 limiter_unavailable"
	budgetSpent  = "402 budget_exceeded budget_usd"
	budgetHeld   = "402 budget_in_flight budget_usd"
	quotaSpent   = "429 quota_exceeded max_requests"
	quotaHeld    = "429 rate_limit_exceeded max_requests"
	modelRefused = "403 model_not_allowed"
	providerAway = "502 upstream_error"
	databaseSlow = "503 store_unavailable" // on a machine that is busy
)
