package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// cliTerminal opens a pseudo-terminal: what a person sees, and what the command does.
func cliTerminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

func TestCLIConversation(t *testing.T) {
	t.Parallel()
	b := newCLIBox(t)
	b.write("Caddyfile", b.caddyfile(""))
	b.serve()
	b.hide(b.read("data/management-token"))
	b.write("data/url", b.url)
	b.write("provider-key", cliProviderKey)
	b.ok("project", "create", "p", "--api-key", "@provider-key")
	token := strings.TrimSpace(b.ok("token", "create", "--project", "p"))
	b.env = append(b.env, "LLM_PROXY_TOKEN="+b.hide(token))

	screen, tty := cliTerminal(t)
	ctx, cancel := context.WithTimeout(t.Context(), cliPatience)
	defer cancel()
	cmd := b.command(ctx, "llm-proxy", "chat")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	var mu sync.Mutex
	var text strings.Builder
	seen := func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		buf := make([]byte, 4096)
		for {
			n, err := screen.Read(buf)
			mu.Lock()
			text.Write(buf[:n])
			mu.Unlock()
			if err != nil { // the command has closed its end
				return
			}
		}
	}()
	enter := func(keys string) {
		t.Helper()
		if _, err := screen.WriteString(keys); err != nil {
			t.Fatal(err)
		}
	}
	shows := func(words string, times int) {
		t.Helper()
		cliWait(t, words+" on the screen", func() bool { return strings.Count(seen(), words) >= times })
	}
	shows("> ", 1)
	enter("Good morning\n")
	shows("Good morning", 2) // typed, and in the answer
	shows("> ", 2)
	enter("/model sim-silent-1h\n")
	shows("talking to sim-silent-1h", 1)
	shows("> ", 3)
	enter("Wait\n")
	cliWait(t, "the request is with the provider", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.served) == 2
	})
	enter("\x03") // Ctrl-C ends the answer
	shows("(stopped)", 1)
	shows("> ", 4)
	enter("\x03") // and then the conversation
	err := cmd.Wait()
	<-drained
	if err != nil {
		t.Errorf("chat ended with %v:\n%s", err, seen())
	}
	if strings.Contains(seen(), token) {
		t.Error("the token is on the screen")
	}
}
