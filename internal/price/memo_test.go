package price

import (
	"fmt"
	"testing"
)

func TestMemoIsBounded(t *testing.T) {
	m := memo[int]{half: 10}
	m.put(memoKey{model: "kept"}, -1)
	for i := range 1000 {
		m.put(memoKey{model: fmt.Sprint(i)}, i)
		if i%5 == 0 {
			if value, ok := m.get(memoKey{model: "kept"}); !ok || value != -1 {
				t.Fatalf("what is asked for often is forgotten after %d others", i)
			}
		}
	}
	if n := len(m.recent) + len(m.previous); n > 20 {
		t.Errorf("%d entries", n)
	}
	if _, ok := m.get(memoKey{model: "1"}); ok {
		t.Error("nothing is forgotten")
	}
}
