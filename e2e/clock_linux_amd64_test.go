package e2e

import (
	"bytes"
	"debug/elf"
	le "encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wallClock sets the time of one process while the machine's stays: the process
// sees its wall clock jump, as after a correction by hand or by NTP, and its
// monotonic clock go on.
//
// libfaketime cannot do that, as Go does not ask libc for the time: it calls
// __vdso_clock_gettime, whose code the kernel maps into every process. That is a
// private mapping, so a debugger may write to it, and the process has a copy of its
// own from then on. Ours asks the kernel and adds what we say. It is machine code
// of one architecture, hence this file's name; whoever may trace a child may do
// it: root, and anybody under Yama's ptrace_scope 0 and 1.
type wallClock struct {
	p      *proxy
	mem    *os.File
	offset int64 // where the process reads how many seconds it is ahead
}

// vdsoClock takes a clock's id in edi and a timespec in rsi. Go looks at neither
// flags nor result.
var vdsoClock = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, // mov $228 (clock_gettime), %eax
	0x0f, 0x05, // syscall
	0x85, 0xff, // test %edi, %edi: CLOCK_REALTIME is 0
	0x75, 0x0a, // jne +10
	0x48, 0x8b, 0x0d, 0x06, 0x00, 0x00, 0x00, // mov 6(%rip), %rcx: what lies behind the code
	0x48, 0x01, 0x0e, // add %rcx, (%rsi)
	0x31, 0xc0, // xor %eax, %eax
	0xc3, // ret
}

// wallClock takes over the process's clock. It shows the right time until it is set.
func (p *proxy) wallClock(t *testing.T) *wallClock {
	t.Helper()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.cmd.Process.Pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("the memory of a child, which whoever may trace it may open: %v", err)
	}
	t.Cleanup(func() { mem.Close() })
	from, to := p.vdso(t)
	image := make([]byte, to-from)
	if _, err := mem.ReadAt(image, from); err != nil {
		t.Fatal(err)
	}
	at, size := clockFunction(t, image)
	if need := uint64(len(vdsoClock) + 8); size < need {
		t.Fatalf("__vdso_clock_gettime has %d bytes, fewer than the %d that take its place", size, need)
	}
	c := &wallClock{p: p, mem: mem, offset: from + at + int64(len(vdsoClock))}
	eventually(t, "no thread of the process is reading the clock", func() (done bool) {
		c.frozen(t, func() {
			if done = !c.within(t, from, to); done {
				c.write(t, c.offset, make([]byte, 8))
				c.write(t, from+at, vdsoClock)
			}
		})
		return done
	})
	c.set(t, 0)
	return c
}

// vdso is where the kernel's code lies in the process.
func (p *proxy) vdso(t *testing.T) (from, to int64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return from, to
		}
	}
	t.Fatal("the process has no vDSO: it was switched off (vdso=0)")
	return 0, 0
}

// clockFunction finds the function that Go calls, as an offset in the image.
func clockFunction(t *testing.T, image []byte) (at int64, size uint64) {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name != "__vdso_clock_gettime" {
			continue
		}
		for _, part := range file.Progs {
			if part.Type == elf.PT_LOAD && s.Value >= part.Vaddr && s.Value < part.Vaddr+part.Memsz {
				return int64(s.Value - part.Vaddr + part.Off), s.Size
			}
		}
	}
	t.Fatal("the vDSO has no __vdso_clock_gettime")
	return 0, 0
}

// frozen does something while no thread of the process runs.
func (c *wallClock) frozen(t *testing.T, do func()) {
	t.Helper()
	process := c.p.cmd.Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}()
	eventually(t, "every thread has stopped", func() bool {
		for _, text := range c.threads(t, "stat") {
			_, state, _ := strings.Cut(text, ") ") // the name before may hold anything
			if !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return true
	})
	do()
}

// within reports whether a stopped thread is about to go on in between.
func (c *wallClock) within(t *testing.T, from, to int64) bool {
	t.Helper()
	for _, text := range c.threads(t, "syscall") {
		fields := strings.Fields(text)
		pc, err := strconv.ParseInt(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
		if err != nil {
			t.Fatalf("where a thread stands: %q", text)
		}
		if pc >= from && pc < to {
			return true
		}
	}
	return false
}

// threads reads a file of every thread.
func (c *wallClock) threads(t *testing.T, name string) (texts []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", c.p.cmd.Process.Pid, name))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // it ended
		}
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

func (c *wallClock) write(t *testing.T, at int64, data []byte) {
	t.Helper()
	if _, err := c.mem.WriteAt(data, at); err != nil {
		t.Fatalf("writing to the process's vDSO, which its parent may: %v", err)
	}
}

// set makes the process's clock jump to so much ahead of the machine's, and checks
// that it did.
func (c *wallClock) set(t *testing.T, ahead time.Duration) {
	t.Helper()
	c.frozen(t, func() {
		c.write(t, c.offset, le.LittleEndian.AppendUint64(nil, uint64(ahead/time.Second)))
	})
	before := time.Now()
	resp, err := c.p.client(h1).Get(c.p.url + "/live")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	told, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	// A Date has whole seconds, and caches may be a second old.
	if early, late := before.Add(ahead-2*time.Second), time.Now().Add(ahead+time.Second); told.Before(early) || told.After(late) {
		t.Fatalf("the process says that it is %s, want %s to %s", told, early.UTC(), late.UTC())
	}
}
