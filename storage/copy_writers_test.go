package storage

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestCopyNoticesWriters has somebody write to the target at the same time.
func TestCopyNoticesWriters(t *testing.T) {
	t.Parallel()
	acrossKinds(t, testCopyNoticesWriters)
}

func testCopyNoticesWriters(t *testing.T, from, to string) {
	makeMoved(t, from, 10)
	node := openDB(t, to) // started before the copy
	heard := hear(t, node)
	var once bool
	_, err := copyDB(t, from, to, CopyOptions{Progress: func(p CopyProgress) {
		if p.Table == copiedTables[len(copiedTables)-1].name && p.Seen == p.Rows && !once {
			once = true
			exec(t, node, `UPDATE tokens SET name = 'strange'`)
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "tokens differ") {
		t.Fatal(err)
	}
	if err := newDB(t, to).Open(t.Context()); !errors.Is(err, ErrUnfinished) {
		t.Errorf("opening what differs: %v", err)
	}
	if changed := mustCopy(t, from, to, CopyOptions{}); changed != 10 {
		t.Errorf("%d rows were put right", changed)
	}
	sameContent(t, content(t, from), to)
	source := openDB(t, from)
	eventually(t, "the node uses the new pepper", func() bool {
		_, gaps := heard.all()
		return gaps > 0 && bytes.Equal(node.Pepper(), source.Pepper())
	})
	// Since a node uses it, the copy is a copy no more.
	if _, err := copyDB(t, from, to, CopyOptions{}); !errors.Is(err, ErrHoldsData) {
		t.Errorf("copying over a node's data: %v", err)
	}
}
