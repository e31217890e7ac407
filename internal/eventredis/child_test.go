package eventredis_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// Environment of a child process: what it does, and with which servers.
const (
	childRole   = "EVENTREDIS_TEST_ROLE"
	childRedis  = "EVENTREDIS_TEST_REDIS"
	childDriver = "EVENTREDIS_TEST_DRIVER"
	childDSN    = "EVENTREDIS_TEST_DSN"
)

// child is a node: it appends and moves events until it is killed, and prints the
// ids of those that were acknowledged.
func child(role string) error {
	db, err := openDatabase(os.Getenv(childDriver), os.Getenv(childDSN))
	if err != nil {
		return err
	}
	conn, err := redisconn.New(redisconn.Settings{URLs: []secret.Value{secret.NewValue(os.Getenv(childRedis))}}, nil)
	if err != nil {
		return err
	}
	conn.Start()
	s, err := eventredis.New(eventredis.Config{Client: conn.Client(), Key: testKey, Database: db, Explain: conn.Explain})
	if err != nil {
		return err
	}
	go s.Run(context.Background())
	for s.Stats().Err != nil {
		time.Sleep(time.Millisecond)
	}
	if role != "append" {
		return fmt.Errorf("no such role: %s", role)
	}
	out := bufio.NewWriter(os.Stdout)
	var m made
	for {
		m.ids = nil
		if err := s.AppendEvents(context.Background(), m.some(1+rand.IntN(40))); err != nil {
			return err
		}
		for _, id := range m.ids {
			fmt.Fprintln(out, id)
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// TestKilledNodes kills two nodes that share a database, which append and move
// events, again and again: what was acknowledged is in the database once, and the
// sums agree.
func TestKilledNodes(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	dsn := testdb.Postgres(t)
	db := openSQL(t, "postgres", dsn)
	var (
		mu    sync.Mutex
		acked = make(map[uuid.UUID]bool)
	)
	var nodes sync.WaitGroup
	for range 2 {
		nodes.Go(func() {
			for range 4 {
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), childRole+"=append", childRedis+"="+server.URL(), childDriver+"=postgres", childDSN+"="+dsn)
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					t.Error(err)
					return
				}
				life := 100 + rand.IntN(500) // events that it lives for
				lines := bufio.NewReader(out)
				for n := 0; ; n++ {
					line, err := lines.ReadString('\n')
					if err != nil { // the last line may be a half
						if err != io.EOF {
							t.Error(err)
						}
						break
					}
					if id, err := uuid.FromString(line[:len(line)-1]); err != nil {
						t.Error(err)
					} else {
						mu.Lock()
						acked[id] = true
						mu.Unlock()
					}
					if n == life {
						_ = cmd.Process.Kill()
					}
				}
				if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
					t.Errorf("it ended by itself: %v", err)
				}
			}
		})
	}
	nodes.Wait()
	left := connect(t, server.URL()).Client().XLen(t.Context(), testKey).Val()
	n := start(t, server.URL(), db)
	waitFor(t, "the stream is empty", func() bool {
		return n.conn.Client().XLen(t.Context(), testKey).Val() == 0
	})
	n.end()
	counts := make(map[uuid.UUID]int)
	for _, id := range kept(t, db) {
		counts[id]++
		if counts[id] > 1 {
			t.Errorf("%s is there twice", id)
		}
	}
	for id := range acked {
		if counts[id] == 0 {
			t.Errorf("%s was acknowledged, and is lost", id)
		}
	}
	if requests, cost := sums(t, db); requests != int64(len(counts)) || cost != 7*requests {
		t.Errorf("the sums are %d requests and %d, want %d", requests, cost, len(counts))
	}
	t.Logf("%d events acknowledged, %d in the database, %d were left behind", len(acked), len(counts), left)
}
