package fill_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

func TestRecorded(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		c := attend(g, u.start())
		up := u.last()
		recorded := func(body string, want bool, marks ...fill.Mark) {
			t.Helper()
			up.do(t, func(w *fill.Writer) error {
				b, m, ok := w.Recorded()
				if string(b) != body || ok != want || !slices.Equal(m, marks) {
					t.Errorf("recorded %q, %v, %v; want %q, %v", b, m, ok, body, marks)
				}
				return nil
			})
		}
		recorded("", false)
		up.header(t, storable)
		recorded("", true)
		time.Sleep(time.Minute) // the time to the first byte does not count
		up.write(t, "one")
		time.Sleep(50 * time.Millisecond)
		up.write(t, "two")
		up.write(t, "three")
		recorded("onetwothree", true, fill.Mark{End: 3}, fill.Mark{End: 6, At: 50 * time.Millisecond}, fill.Mark{End: 11, At: 50 * time.Millisecond})
		up.do(t, (*fill.Writer).Close)
		recorded("onetwothree", true, fill.Mark{End: 3}, fill.Mark{End: 6, At: 50 * time.Millisecond}, fill.Mark{End: 11, At: 50 * time.Millisecond})
		up.steps <- nil
		c.want(t, "onetwothree", nil)
	})
}

// TestManyMarks: pieces of a byte do not cost more than their marks' bound.
func TestManyMarks(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		c := attend(g, u.start())
		up := u.last()
		up.header(t, storable)
		const n = 5*fill.MaxMarks + 1
		up.begin(func(w *fill.Writer) error {
			for i := range n {
				if i > 0 {
					time.Sleep(time.Millisecond)
				}
				if _, err := w.Write([]byte("x")); err != nil {
					return err
				}
			}
			_, marks, _ := w.Recorded()
			if len(marks) > fill.MaxMarks || len(marks) < fill.MaxMarks/2 {
				t.Errorf("%d marks", len(marks))
			}
			for i, m := range marks {
				if i > 0 && m.End <= marks[i-1].End || m.At != time.Duration(m.End-1)*time.Millisecond {
					t.Fatalf("mark %d of %d is %+v", i, len(marks), m)
				}
			}
			if last := marks[len(marks)-1]; last.End != n {
				t.Errorf("the marks end at %d of %d", last.End, n)
			}
			return nil
		})
		if err := <-up.errs; err != nil { // the clock goes on while everybody waits
			t.Fatal(err)
		}
		up.close(t)
		c.want(t, strings.Repeat("x", n), nil)
	})
}
