package sink

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes, as Standard Webhooks demands
	maxSecret    = 64
)

// WebhookConfig says where events are posted. URL is required.
type WebhookConfig struct {
	URL     secret.Value // it may hold one
	Secrets []secret.Value
	Headers map[string]secret.Value
}

// Webhook posts batches as JSON arrays, signed as Standard Webhooks says
// (https://www.standardwebhooks.com) if there is a secret: once for each, so that a
// receiver may change over from one to another. An element with the type "alert" is one;
// requests have no type.
type Webhook struct {
	post *poster
	keys [][]byte
}

// NewWebhook makes a webhook.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	w := new(Webhook)
	for i, s := range cfg.Secrets {
		key, err := ParseWebhookSecret(s.Reveal())
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		w.keys = append(w.keys, key)
	}
	var err error
	if w.post, err = newPoster(cfg.URL, cfg.Headers); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	return w, nil
}

// ParseWebhookSecret reads a secret as Standard Webhooks writes it: whsec_ and
// base64 of 24 to 64 bytes. The error does not show it.
func ParseWebhookSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return nil, errors.New("expected whsec_ and base64 of 24 to 64 random bytes, such as: echo whsec_$(openssl rand -base64 32)")
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, errors.New("what follows whsec_ is not base64 of 24 to 64 bytes; make one with: echo whsec_$(openssl rand -base64 32)")
	}
	return key, nil
}

// Deliver implements [delivery.Sink].
func (w *Webhook) Deliver(ctx context.Context, events []delivery.Event) error {
	body := []byte{'['}
	for i := range events {
		if i > 0 {
			body = append(body, ',')
		}
		body = events[i].AppendJSON(body)
	}
	body = append(body, ']')
	id, at := batchID(events), strconv.FormatInt(time.Now().Unix(), 10)
	headers := []string{"Content-Type", "application/json", "Webhook-Id", id, "Webhook-Timestamp", at}
	if len(w.keys) > 0 {
		headers = append(headers, "Webhook-Signature", w.sign(id, at, body))
	}
	_, err := w.post.post(ctx, body, headers...)
	return err
}

// batchID is the same for the same events, so that a receiver knows a batch that it
// has had.
func batchID(events []delivery.Event) string {
	h := sha256.New()
	for _, e := range events {
		h.Write(e.ID[:])
	}
	return "evt_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// sign is the value of the signature's header.
func (w *Webhook) sign(id, at string, body []byte) string {
	var b bytes.Buffer
	for i, key := range w.keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + at + "."))
		mac.Write(body)
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}

// Close lets go of idle connections.
func (w *Webhook) Close() error {
	w.post.close()
	return nil
}
