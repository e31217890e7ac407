package relay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// A message is text: a line with format, node, number and kind, then a line for
// each change. Numbers count a node's messages with changes; the others repeat the
// last one, so that each message tells whether one before it was missed.
const (
	formatPrefix = "llm-proxy/"
	format       = formatPrefix + "1"

	// maxChanges is how many changes one message holds, and maxMessage its length:
	// that of the longest one with them, and some.
	maxChanges = 50
	maxMessage = 8 << 10
	maxNode    = 64
)

type kind string

const (
	kindChanges kind = "changes"
	kindAlive   kind = "alive" // nothing new
	kindLost    kind = "lost"  // some changes will never come
	kindBye     kind = "bye"   // nothing will come any more
)

type message struct {
	node    string
	number  uint64
	kind    kind
	changes []token.Change
}

var (
	errGarbage     = errors.New("not an announcement")
	errNewerFormat = errors.New("an announcement in a format that this binary does not know")
)

func (m message) encode() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d %s", format, m.node, m.number, m.kind)
	for _, c := range m.changes {
		fmt.Fprintf(&b, "\n%d %s %d %t", c.Kind, c.ID, c.Version, c.Revoked)
	}
	return b.String()
}

// decode reads what encode wrote, and nothing else.
func decode(text string) (message, error) {
	if len(text) > maxMessage {
		return message{}, errGarbage
	}
	head, rest, hasChanges := strings.Cut(text, "\n")
	fields := strings.Split(head, " ")
	switch {
	case fields[0] != format && strings.HasPrefix(fields[0], formatPrefix):
		return message{}, errNewerFormat
	case fields[0] != format || len(fields) != 4 || fields[1] == "" || len(fields[1]) > maxNode:
		return message{}, errGarbage
	}
	m := message{node: fields[1], kind: kind(fields[3])}
	var err error
	if m.number, err = strconv.ParseUint(fields[2], 10, 64); err != nil {
		return message{}, errGarbage
	}
	switch m.kind {
	case kindChanges:
		if !hasChanges || m.number == 0 {
			return message{}, errGarbage
		}
	case kindAlive, kindLost, kindBye:
		if hasChanges {
			return message{}, errGarbage
		}
		return m, nil
	default:
		return message{}, errGarbage
	}
	for line := range strings.SplitSeq(rest, "\n") {
		c, ok := decodeChange(line)
		if !ok || len(m.changes) == maxChanges {
			return message{}, errGarbage
		}
		m.changes = append(m.changes, c)
	}
	return m, nil
}

func decodeChange(line string) (c token.Change, ok bool) {
	fields := strings.Split(line, " ")
	if len(fields) != 4 {
		return c, false
	}
	number, kindErr := strconv.ParseUint(fields[0], 10, 8)
	id, idErr := uuid.FromString(fields[1])
	version, versionErr := strconv.ParseInt(fields[2], 10, 64)
	revoked, revokedErr := strconv.ParseBool(fields[3])
	c = token.Change{Kind: token.ChangeKind(number), ID: id, Version: version, Revoked: revoked}
	known := c.Kind >= token.TokenChanged && c.Kind <= token.ProjectTokensRevoked
	return c, known && version >= 1 && errors.Join(kindErr, idErr, versionErr, revokedErr) == nil
}
