package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// redisServer is a Redis of this run, and a connection to ask what it has done.
type redisServer struct {
	url  string
	conn *redisconn.Conn
}

// redis starts one, which ends with the lab.
func (l *lab) redis(options ...string) (*redisServer, error) {
	url, stop, err := startRedis(options...)
	if err != nil {
		return nil, err
	}
	l.after = append(l.after, stop)
	conn, err := redisconn.New(redisconn.Settings{URLs: []secret.Value{secret.NewValue(url)}}, nil)
	if err != nil {
		return nil, err
	}
	conn.Start()
	l.after = append(l.after, conn.Close)
	return &redisServer{url, conn}, nil
}

// redisCount is what a Redis has done since its start.
type redisCount struct {
	scripts  float64 // that it was asked to run
	commands float64 // those in scripts included
	reads    float64 // of its sockets: no more than its round trips are these
	busy     float64 // microseconds of commands
}

func (r *redisServer) count(ctx context.Context) (redisCount, error) {
	var text strings.Builder
	for _, part := range []string{"stats", "commandstats"} {
		answer, err := r.conn.Client().Info(ctx, part).Result()
		if err != nil {
			return redisCount{}, fmt.Errorf("asking Redis what it did: %w", r.conn.Explain(err))
		}
		text.WriteString(answer + "\n")
	}
	return parseRedisCount(text.String()), nil
}

// parseRedisCount reads what INFO stats and INFO commandstats answer. A script's
// time has that of its commands in it.
func parseRedisCount(info string) redisCount {
	var c redisCount
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "total_reads_processed" {
			c.reads, _ = strconv.ParseFloat(value, 64)
			continue
		}
		command, ok := strings.CutPrefix(name, "cmdstat_")
		if !ok {
			continue
		}
		calls := field(value, "calls")
		c.commands += calls
		switch command {
		case "eval", "evalsha", "fcall":
			c.scripts += calls
			c.busy += field(value, "usec")
		}
	}
	return c
}

// field reads a number of a list such as calls=3,usec=5.
func field(list, name string) float64 {
	for part := range strings.SplitSeq(list, ",") {
		if text, ok := strings.CutPrefix(part, name+"="); ok {
			n, _ := strconv.ParseFloat(text, 64)
			return n
		}
	}
	return 0
}
