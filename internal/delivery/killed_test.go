package delivery_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
)

// Environment of a child process: where its cursor is, and where it delivers to.
const (
	childCursor   = "DELIVERY_TEST_CURSOR"
	childReceiver = "DELIVERY_TEST_RECEIVER"
	childEvents   = 400
)

// fileCursor is a log that is always the same, with its cursor in a file.
type fileCursor struct {
	*memory
	path string
}

func (f *fileCursor) OpenCursor(context.Context, string, bool) (int64, error) {
	text, err := os.ReadFile(f.path)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(string(text), 10, 64)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cursors["a"] = at
	return at, err
}

func (f *fileCursor) AdvanceCursor(ctx context.Context, sink string, from, to int64, dead []delivery.DeadLetter) (bool, error) {
	if moved, err := f.memory.AdvanceCursor(ctx, sink, from, to, dead); !moved || err != nil {
		return moved, err
	}
	if err := os.WriteFile(f.path+".new", []byte(strconv.FormatInt(to, 10)), 0o600); err != nil {
		return false, err
	}
	return true, os.Rename(f.path+".new", f.path)
}

// child delivers until it is killed, or stands at the end.
func child(cursor, url string) error {
	w, err := sink.NewWebhook(sink.WebhookConfig{URL: secret.NewValue(url)})
	if err != nil {
		return err
	}
	f := &fileCursor{newMemory(childEvents), cursor}
	for i := range f.log {
		f.log[i].Event.ID = uuid.NewV5(uuid.Nil, strconv.Itoa(i))
	}
	e := delivery.New(delivery.Config{Store: f})
	if _, err := e.Attach([]delivery.Spec{{Name: "a", Sink: w, FromBeginning: true, Batch: 10, Linger: -1}}); err != nil {
		return err
	}
	for {
		if all, err := e.Snapshot(context.Background()); err != nil || all[0].Pending == 0 {
			e.Close()
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestKilled kills the process while it delivers, again and again, before and after
// the receiver has answered: everything arrives, in order, and only a batch for
// each kill comes twice.
func TestKilled(t *testing.T) {
	const kills = 6
	var (
		mu       sync.Mutex
		requests int
		process  *os.Process
		got      []string
		twice    int
		seen     = make(map[string]bool)
		kill     = make(map[int]bool) // at these requests
	)
	for i := range kills {
		kill[3+7*i] = true
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var batch []struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
			return // it was killed while it sent
		}
		for _, e := range batch {
			if seen[e.ID] {
				twice++
				continue
			}
			seen[e.ID] = true
			got = append(got, e.ID)
		}
		requests++
		if kill[requests] && requests%2 == 0 {
			w.WriteHeader(http.StatusNoContent)
			_ = http.NewResponseController(w).Flush()
		}
		if kill[requests] {
			_ = process.Kill()
		}
	}))
	defer receiver.Close()
	cursor := filepath.Join(t.TempDir(), "cursor")
	killed := 0
	for {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childCursor+"="+cursor, childReceiver+"="+receiver.URL)
		mu.Lock()
		err := cmd.Start()
		process = cmd.Process
		mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if err = cmd.Wait(); err == nil {
			break
		}
		if killed++; cmd.ProcessState.ExitCode() != -1 || killed > kills {
			t.Fatalf("after %d kills: %v", killed, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if killed != kills || len(got) != childEvents || twice > kills*10 {
		t.Errorf("killed %d times: %d events, %d of them twice", killed, len(got), twice)
	}
	for i, id := range got {
		if want := uuid.NewV5(uuid.Nil, strconv.Itoa(i)).String(); id != want {
			t.Fatalf("event %d is %s, want %s", i, id, want)
		}
	}
}
