package event

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
)

func spilled(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestOutage has the database away, then there again: every event reaches it.
func TestOutage(t *testing.T) {
	for name, begin := range map[string]func(r *rig) (end func()){
		"failing": func(r *rig) func() { r.store.fail(errAway); return func() { r.store.fail(nil) } },
		"frozen":  func(r *rig) func() { return r.store.freeze() },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, Config{Dir: filepath.Join(dir, "sub"), Patience: 5 * time.Millisecond, Interval: time.Millisecond, Timeout: time.Second})
			r.add(10)
			eventually(t, "the database has them", func() bool { return r.Stats().Committed == 10 })
			end := begin(r)
			for range 5 {
				before := r.Stats().Spilled
				r.add(300)
				eventually(t, "they are on disk", func() bool { s := r.Stats(); return s.Spilled == before+300 && s.Pending == 0 })
			}
			e := newEvent()
			r.sent = append(r.sent, e.ID)
			if err := r.AppendDurable(t.Context(), e); err != nil {
				t.Error(err)
			}
			if s := r.Stats(); s.SpillEvents != 1501 || s.SpillBytes == 0 || len(spilled(t, filepath.Join(dir, "sub"))) == 0 {
				t.Errorf("stats are %+v", s)
			}
			end()
			eventually(t, "the spill is empty", func() bool {
				s := r.Stats()
				return s.SpillEvents == 0 && s.SpillBytes == 0 && len(r.store.ids()) == len(r.sent)
			})
			r.complete()
			eventually(t, "the file is gone", func() bool { return len(spilled(t, filepath.Join(dir, "sub"))) == 0 })
			eventually(t, "it is said", func() bool { return r.out.count("no events wait on disk any more") > 0 })
			if n := r.out.count("level=WARN"); n != 1 {
				t.Errorf("%d warnings:\n%s", n, r.out.text.String())
			}
		})
	}
}

// TestRingFull has callers write themselves.
func TestRingFull(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, Config{Dir: dir, Ring: 8, Batch: 4, Patience: time.Hour, Timeout: time.Hour})
	thaw := r.store.freeze()
	r.add(4)
	eventually(t, "the batch is on its way", func() bool { return r.inHand.Load() == 4 })
	r.add(8)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 50 {
		wg.Go(func() {
			e := newEvent()
			mu.Lock()
			r.sent = append(r.sent, e.ID)
			mu.Unlock()
			if e.ID[15]%2 == 0 {
				r.Append(e)
			} else if err := r.AppendDurable(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s := r.Stats(); s.Spilled != 50 || s.Dropped != 0 {
		t.Errorf("stats are %+v", s)
	}
	thaw()
	eventually(t, "all are committed", func() bool { return len(r.store.ids()) == len(r.sent) })
	r.complete()
}

// TestSpillFull counts what neither memory nor disk has room for, and nothing else.
func TestSpillFull(t *testing.T) {
	r := newRig(t, Config{Dir: t.TempDir(), MaxSpill: 4000, Ring: 16, Batch: 4, Interval: time.Millisecond, Patience: time.Millisecond})
	r.store.fail(errAway)
	for r.Stats().Dropped < 10 {
		r.add(1)
	}
	if s := r.Stats(); s.SpillBytes > 4000 || s.SpillEvents == 0 {
		t.Errorf("stats are %+v", s)
	}
	r.store.fail(nil)
	eventually(t, "all else is committed", func() bool {
		s := r.Stats()
		return s.Pending == 0 && s.SpillEvents == 0 && int64(len(r.store.ids()))+s.Dropped == s.Published
	})
	if r.out.count("events are lost from now on") == 0 || r.out.count("events are written again") == 0 {
		t.Errorf("logged:\n%s", r.out.text.String())
	}
}

// TestLeftBehind closes a log whose database is away; the next one finds the events.
func TestLeftBehind(t *testing.T) {
	dir := t.TempDir()
	first := newRig(t, Config{Dir: dir, Patience: time.Millisecond})
	first.store.fail(errAway)
	first.add(25)
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := first.Stats(); s.Spilled != 25 || s.Dropped != 0 {
		t.Errorf("stats are %+v", s)
	}
	second := newRig(t, Config{Dir: dir})
	second.sent = first.sent
	eventually(t, "the events are adopted", func() bool { return len(second.store.ids()) == 25 })
	second.complete()
	eventually(t, "nothing is left", func() bool { return len(spilled(t, dir)) == 0 })
}

// TestNeighbours has two logs share a directory: neither takes the other's files.
func TestNeighbours(t *testing.T) {
	dir := t.TempDir()
	a := newRig(t, Config{Dir: dir, Patience: time.Millisecond, Interval: time.Millisecond})
	a.store.fail(errAway)
	a.add(20)
	eventually(t, "they are on disk", func() bool { return a.Stats().SpillEvents == 20 })
	b := newRig(t, Config{Dir: dir})
	if err := b.spill.adopt(); err != nil {
		t.Error(err)
	}
	if err := a.spill.adopt(); err != nil { // nor its own twice
		t.Error(err)
	}
	if s := b.Stats(); s.SpillEvents != 0 || a.Stats().SpillEvents != 20 {
		t.Errorf("the neighbour has %+v", s)
	}
	a.store.fail(nil)
	eventually(t, "they are committed", func() bool { return len(a.store.ids()) == 20 })
	if n := len(b.store.ids()); n != 0 {
		t.Errorf("the neighbour committed %d events", n)
	}
}

// TestKilled kills processes whose database is frozen. What they have called durable
// is there afterwards.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var promised []uuid.UUID
	for range 3 {
		cmd := osexec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(stdin, strings.NewReader(strings.Repeat("\n", 1000))) }() // it ends with the child
		lines := bufio.NewScanner(stdout)
		for n := 0; n < 20 && lines.Scan(); n++ {
			promised = append(promised, uuid.FromStringOrNil(lines.Text()))
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it died
			if id := uuid.FromStringOrNil(lines.Text()); !id.IsNil() {
				promised = append(promised, id)
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the child ended by itself")
		}
	}
	if len(promised) < 60 {
		t.Fatalf("the children promised %d events only", len(promised))
	}
	r := newRig(t, Config{Dir: dir})
	eventually(t, "the spill is empty", func() bool { return r.Stats().SpillEvents == 0 && len(spilled(t, dir)) == 0 })
	for _, id := range promised {
		r.store.mu.Lock()
		if _, ok := r.store.kept[id]; !ok {
			t.Errorf("event %s is lost", id)
		}
		r.store.mu.Unlock()
	}
}

// TestTorn cuts and damages a file at every place that matters.
func TestTorn(t *testing.T) {
	whole := []byte(segmentMagic)
	ends := []int{len(whole)}
	for range 3 {
		whole = appendRecord(whole, newEvent())
		ends = append(ends, len(whole))
	}
	bad := appendRecord(nil, &Event{}) // whole, but no event
	for name, test := range map[string]struct {
		content []byte
		want    int
		dropped int64
	}{
		"whole":              {whole, 3, 0},
		"nothing":            {nil, 0, 0},
		"a part of the head": {whole[:3], 0, 0},
		"empty":              {whole[:ends[0]], 0, 0},
		"cut in a length":    {whole[:ends[1]+2], 1, 0},
		"cut in a payload":   {whole[:ends[2]-1], 1, 0},
		"zeros at the end":   {append(bytes.Clone(whole), make([]byte, 4096)...), 3, 0},
		"a huge length":      {append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4), 3, 0},
		"a flipped bit":      {flip(whole, ends[2]+20), 2, 0},
		"not an event":       {append(append(bytes.Clone(whole[:ends[1]]), bad...), whole[ends[1]:]...), 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "1-2-3.spill"), test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			r := newRig(t, Config{Dir: dir})
			eventually(t, "the file is gone", func() bool { return len(spilled(t, dir)) == 0 })
			if n := len(r.store.ids()); n != test.want {
				t.Errorf("%d events, want %d", n, test.want)
			}
			eventually(t, "nothing is pending", func() bool { s := r.Stats(); return s.SpillBytes == 0 && s.SpillEvents == 0 })
			if s := r.Stats(); s.Dropped != test.dropped {
				t.Errorf("stats are %+v", s)
			}
		})
	}
	t.Run("newer", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.spill"), []byte("llmspl2\nwhatever"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, Config{Dir: dir})
		if len(spilled(t, dir)) != 1 || r.out.count("not a file of events of this version") != 1 {
			t.Errorf("logged:\n%s", r.out.text.String())
		}
	})
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// TestNoRoom has a disk that cannot be written: events wait in memory.
func TestNoRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	r := newRig(t, Config{Dir: dir, Patience: time.Millisecond, Interval: time.Millisecond})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r.store.fail(errAway)
	r.add(10)
	eventually(t, "it is said", func() bool { return r.out.count("events can be written nowhere") == 1 })
	result := make(chan error, 1)
	e := newEvent()
	r.sent = append(r.sent, e.ID)
	go func() { result <- r.AppendDurable(context.Background(), e) }()
	r.store.fail(nil)
	if err := <-result; err != nil {
		t.Error(err)
	}
	r.complete()
	if s := r.Stats(); s.Dropped != 0 {
		t.Errorf("stats are %+v", s)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(appendRecord([]byte(segmentMagic), newEvent()))
	f.Add(appendRecord(appendRecord([]byte(segmentMagic), budgetAlert()), requestsAlert()))
	f.Add([]byte(segmentMagic + "\x01\x00\x00\x00\x00\x00\x00\x00x"))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := newRecords(bytes.NewReader(content))
		if err != nil {
			return
		}
		size := len(segmentMagic)
		for {
			payload, err := r.next()
			if err != nil {
				if err != io.EOF && err != errTorn {
					t.Error(err)
				}
				break
			}
			size += recordHead + len(payload)
		}
		if size > len(content) {
			t.Error(fmt.Sprint("read ", size, " of ", len(content), " bytes"))
		}
	})
}
