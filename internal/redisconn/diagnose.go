package redisconn

import (
	"context"
	"time"
)

// probeChannel is a channel that nobody sends to.
const probeChannel = ChannelPrefix + "probe"

// ChannelPrefix begins the name of every channel, and is what a Redis user of
// ours must have access to.
const ChannelPrefix = "llm-proxy:"

const diagnoseTimeout = 3 * time.Second

// Diagnose connects, asks for a sign of life and for permission to hear
// announcements, and changes nothing. Its error says what to do.
func Diagnose(ctx context.Context, s Settings) (address string, err error) {
	c, err := New(s, nil)
	if err != nil {
		return "", err
	}
	quiet()
	client := c.target.client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		return c.String(), c.Explain(err)
	}
	sub := client.Subscribe(ctx, probeChannel)
	defer sub.Close()
	if _, err := sub.ReceiveTimeout(ctx, diagnoseTimeout); err != nil {
		return c.String(), c.Explain(err)
	}
	return c.String(), nil
}
