package redisconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Error is a failure of Redis in words that hold no secret: a proxy that does not
// know a command repeats its arguments, a password for one.
type Error struct {
	text  string
	cause error
}

func (e *Error) Error() string { return e.text }

// Is makes [errors.Is] work with what is underneath, whose words stay hidden.
func (e *Error) Is(target error) bool { return errors.Is(e.cause, target) }

// refusals are what servers say, by its first word, and what to do about it.
var refusals = map[string]string{
	"WRONGPASS":   "the user or the password is wrong: see the URL",
	"NOAUTH":      "a password is needed: put it into the URL, as {env.REDIS_URL} or {file./path}",
	"NOPERM":      "the user may not do what is needed: see docs/storage.md for its ACL",
	"LOADING":     "the server is still loading its data",
	"MASTERDOWN":  "the server is a replica without its master",
	"READONLY":    "the server is a replica, which cannot be written to: give the address of the master, or use sentinel",
	"CLUSTERDOWN": "the cluster is down",
	"DENIED":      "the server is in protected mode: set a password, or have it listen for this machine alone",
	"MOVED":       "the server is a part of a cluster: add `cluster` to the redis option",
	"CROSSSLOT":   "the server is a part of a cluster: add `cluster` to the redis option",
}

// Explain says what an error of the client means, without secrets. It keeps nil.
func (c *Conn) Explain(err error) error {
	if err == nil {
		return nil
	}
	return &Error{text: c.explain(err), cause: err}
}

func (c *Conn) explain(err error) string {
	where := strings.Join(c.target.addrs, ", ")
	var (
		refused redis.Error
		timeout net.Error
		lookup  *net.DNSError
	)
	switch {
	case errors.As(err, &refused):
		word, _, _ := strings.Cut(refused.Error(), " ")
		if meaning := refusals[word]; meaning != "" {
			return fmt.Sprintf("%s refuses with %s: %s", where, word, meaning)
		}
		return where + " refuses: " + c.redact(refused.Error())
	case errors.As(err, &lookup):
		return where + ": the name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return where + " refuses connections: is Redis running there?"
	case errors.Is(err, redis.ErrPoolTimeout):
		return where + ": all connections are busy"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return where + " does not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return where + " has closed the connection"
	}
	return where + ": " + c.redact(err.Error())
}

func (c *Conn) redact(text string) string {
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	for _, s := range c.target.secrets {
		if s != "" && strings.Contains(text, s) {
			return "the answer holds the password and is not shown"
		}
	}
	return text
}
