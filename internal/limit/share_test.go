package limit_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// TestSlotsWithoutRedis: slots that others had when Redis went away are not given away
// for ten seconds, and nobody keeps more than its share.
func TestSlotsWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	var clock atomic.Int64
	clock.Store(epoch)
	var nodes []*limit.Redis
	for range 3 {
		nodes = append(nodes, node(t, connect(t, server.URL()), nil, func(r *limit.Redis) { r.SetClock(clock.Load) }))
	}
	for _, r := range nodes {
		waitFor(t, "the nodes know each other", func() bool { return r.State().Nodes == 3 && r.Ready() })
	}
	d := slots("a", 6)
	var tickets []*limit.Ticket
	for range 4 {
		tickets = append(tickets, mustTake(t, nodes[0], d))
	}
	for range 2 {
		mustTake(t, nodes[1], d)
	}
	mustRefuse(t, nodes[2], d)
	server.Kill()
	for _, r := range nodes {
		waitFor(t, "a node notices", func() bool {
			_, err := r.Take(t.Context(), deny(requests("other", 1000, time.Hour)), new(limit.Ticket))
			return alone(r)() && errors.Is(err, limit.ErrUnavailable)
		})
	}
	for i, r := range nodes {
		if n, err := drain(t, r, local(d)); n != 0 || err != nil {
			t.Errorf("node %d admits %d when all 6 are in use: %v", i, n, err)
		}
	}
	for _, ticket := range tickets[:3] {
		ticket.Release()
	}
	if n, err := drain(t, nodes[0], local(d)); n != 1 || err != nil {
		t.Errorf("node 0 admits %d besides the one that it has, want 1, of a share of 2: %v", n, err)
	}
	if n, err := drain(t, nodes[2], local(d)); n != 0 || err != nil {
		t.Errorf("node 2 admits %d of what others had: %v", n, err)
	}
	clock.Add(10_000_000)
	if n, err := drain(t, nodes[2], local(d)); n != 2 || err != nil {
		t.Errorf("node 2 admits %d of its share of 2, later: %v", n, err)
	}
}

// TestNodeKilled: a node that was killed is one of the nodes for a while, and does not
// hear of others any more. Those who live keep a share.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	client := connect(t, server.URL()).Client()
	if err := client.Set(t.Context(), clockKey, epoch, 0).Err(); err != nil { // time stands still
		t.Fatal(err)
	}
	var nodes []*limit.Redis
	for range 2 {
		nodes = append(nodes, node(t, connect(t, server.URL()), nil, func(r *limit.Redis) {
			r.SetRedisClock(clockKey)
			r.SetClock(func() int64 { return epoch })
		}))
	}
	for _, r := range nodes {
		waitFor(t, "the nodes know each other", func() bool { return r.State().Nodes == 2 && r.Ready() })
	}
	// It knew of two nodes, itself among them; one of these is its successor.
	if err := client.HSet(t.Context(), limit.NodesKey, "killed", fmt.Sprintf("%d|2", epoch)).Err(); err != nil {
		t.Fatal(err)
	}
	for _, r := range nodes {
		waitFor(t, "the nodes know that there were three", func() bool { return r.State().Nodes == 3 })
		if !r.Ready() {
			t.Error("a node has lost its share")
		}
	}
	server.Kill()
	d := requests("a", 9, time.Hour)
	for i, r := range nodes {
		waitFor(t, "a node notices", func() bool {
			_, err := r.Take(t.Context(), deny(d), new(limit.Ticket))
			return alone(r)() && errors.Is(err, limit.ErrUnavailable)
		})
		if n, err := drain(t, r, local(d)); n != 3 || err != nil {
			t.Errorf("node %d admits %d, want a third of 9: %v", i, n, err)
		}
	}
}
