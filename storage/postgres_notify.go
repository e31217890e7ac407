package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// An announcement is text: a line with its format and the node that made it,
// then a line for each change. A format that a node does not know comes from a
// newer one, and may say anything.
const (
	changesChannel     = "llm_proxy_changes"
	announcementPrefix = "llm-proxy/"
	announcementFormat = announcementPrefix + "1"
	// rewriteFormat says that everything may have changed. Binaries that do not know
	// it understand just that.
	rewriteFormat = announcementPrefix + "rewritten"

	// announcedAtOnce keeps an announcement below the server's 8,000 bytes.
	announcedAtOnce = 50
)

// newNode makes a name that no other node has.
func newNode() string { return strings.ToLower(rand.Text()) }

func heartbeatChannel(node string) string { return "llm_proxy_node_" + node }

// announce is part of the transaction: the server delivers when it commits.
func (p *postgresDB) announce(ctx context.Context, tx *sql.Tx, changes []token.Change) error {
	for part := range slices.Chunk(changes, announcedAtOnce) {
		if _, err := tx.ExecContext(ctx, `SELECT pg_notify($1, $2)`, changesChannel, encodeChanges(p.node, part)); err != nil {
			return fmt.Errorf("announcing changes: %w", err)
		}
	}
	return nil
}

func (p *postgresDB) announceRewrite(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_notify($1, $2)`, changesChannel, rewriteFormat+" "+p.node); err != nil {
		return fmt.Errorf("announcing the rewrite: %w", err)
	}
	return nil
}

// epochPoll is zero: a rewrite is announced.
func (p *postgresDB) epochPoll() time.Duration { return 0 }

func encodeChanges(node string, changes []token.Change) string {
	var b strings.Builder
	b.WriteString(announcementFormat + " " + node)
	for _, c := range changes {
		fmt.Fprintf(&b, "\n%d %s %d %t", c.Kind, c.ID, c.Version, c.Revoked)
	}
	return b.String()
}

var (
	errGarbage     = errors.New("not an announcement")
	errRewritten   = errors.New("the database was rewritten")
	errNewerFormat = errors.New("an announcement in a format that this binary does not know")
)

func decodeChanges(payload string) (node string, changes []token.Change, err error) {
	head, rest, _ := strings.Cut(payload, "\n")
	format, node, _ := strings.Cut(head, " ")
	switch {
	case format == announcementFormat && node != "":
	case format == rewriteFormat:
		return "", nil, errRewritten
	case strings.HasPrefix(format, announcementPrefix) && format != announcementFormat:
		return "", nil, errNewerFormat
	default:
		return "", nil, errGarbage
	}
	if rest == "" {
		return node, nil, nil
	}
	for line := range strings.SplitSeq(rest, "\n") {
		fields := strings.Split(line, " ")
		if len(fields) != 4 {
			return "", nil, errGarbage
		}
		kind, kindErr := strconv.ParseUint(fields[0], 10, 8)
		id, idErr := uuid.FromString(fields[1])
		version, versionErr := strconv.ParseInt(fields[2], 10, 64)
		revoked, revokedErr := strconv.ParseBool(fields[3])
		if errors.Join(kindErr, idErr, versionErr, revokedErr) != nil || version < 1 {
			return "", nil, errGarbage
		}
		changes = append(changes, token.Change{Kind: token.ChangeKind(kind), ID: id, Version: version, Revoked: revoked})
	}
	return node, changes, nil
}

// receive passes on what another node announced. Our own announcements were
// passed on when they were committed.
func (p *postgresDB) receive(payload string, f follower) {
	node, changes, err := decodeChanges(payload)
	switch {
	case errors.Is(err, errRewritten):
		f.gap()
	case errors.Is(err, errNewerFormat):
		p.logger.Warn("nothing that is remembered can be relied on", "error", err)
		f.gap()
	case err != nil:
		p.logger.Warn("ignoring a message to the channel of changes", "error", err, "channel", changesChannel, "bytes", len(payload))
	case node != p.node:
		for _, c := range changes {
			f.changed(c)
		}
	}
}
