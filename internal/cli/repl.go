package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	// wholeAnswerTimeout bounds an answer that is not streamed.
	wholeAnswerTimeout = 10 * time.Minute

	maxPrompt = 16 << 20
)

const replHelp = `/model NAME   talk to another model
/system TEXT  set the system prompt; without a text remove it
/reset        forget the conversation
/quit         leave, as Ctrl-D does
/help         this list
Ctrl-C ends the answer that is running, or leaves.`

// ReadPrompt reads a question from standard input.
func ReadPrompt(stdin io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(stdin, maxPrompt+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading standard input: %w", err)
	case len(data) > maxPrompt:
		return "", errors.New("the question on standard input is too large")
	}
	return strings.TrimSpace(string(data)), nil
}

// Converse asks line by line what in says, until its end, /quit, or an interrupt
// while no answer is running. What fails is told, and the conversation goes on.
func (c *Chat) Converse(ctx context.Context, in io.Reader, interrupts <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines, failed := readLines(ctx, in)
	c.out.Notice("talking to %s; /help lists what else there is", c.opt.Model)
	for {
		fmt.Fprint(c.out.Err, "> ")
		select {
		case <-interrupts:
			fmt.Fprintln(c.out.Err)
			return nil
		case line, more := <-lines:
			if !more {
				fmt.Fprintln(c.out.Err)
				return <-failed
			}
			line = strings.TrimSpace(line)
			switch {
			case line == "":
			case line == "/quit":
				return nil
			case strings.HasPrefix(line, "/"):
				c.command(line)
			case !c.answer(ctx, line, interrupts):
				return nil
			}
		}
	}
}

// answer asks one question. An interrupt ends the answer, a second one says that
// the conversation shall end: then it returns false.
func (c *Chat) answer(ctx context.Context, question string, interrupts <-chan os.Signal) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.Ask(ctx, question) }()
	var interrupted bool
	for {
		select {
		case <-interrupts:
			if interrupted {
				return false
			}
			interrupted = true
			cancel()
		case err := <-done:
			switch {
			case interrupted:
				c.out.Notice("(stopped)")
			case err != nil:
				c.out.Notice("error: %v", err)
			}
			return true
		}
	}
}

func (c *Chat) command(line string) {
	name, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case name == "/help":
		fmt.Fprintln(c.out.Err, replHelp)
	case name == "/reset":
		c.history = nil
		c.out.Notice("the conversation is forgotten")
	case name == "/system":
		c.opt.System = rest
		c.out.Notice("the system prompt is %s", map[bool]string{true: "removed", false: "set"}[rest == ""])
	case name == "/model" && rest != "":
		c.opt.Model = rest
		c.out.Notice("talking to %s", rest)
	case name == "/model":
		c.out.Notice("talking to %s; /model NAME changes it", c.opt.Model)
	default:
		c.out.Notice("unknown command; /help lists them")
	}
}

// readLines reads until in ends or ctx does. Then failed has the reason, nil for
// the regular end.
func readLines(ctx context.Context, in io.Reader) (lines <-chan string, failed <-chan error) {
	out, end := make(chan string), make(chan error, 1)
	go func() {
		defer close(out)
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, maxPrompt)
		for scanner.Scan() {
			select {
			case out <- scanner.Text():
			case <-ctx.Done():
				end <- nil
				return
			}
		}
		end <- scanner.Err()
	}()
	return out, end
}
