package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Purges of the response cache have a channel of their own, so that nodes of a version
// that does not know them do not hear of something they cannot read.
const purgesChannel = "llm_proxy_purges"

func (p *postgresDB) hasNodes() bool { return true }

// announcePurge is part of the transaction: the server delivers when it commits.
func (p *postgresDB) announcePurge(ctx context.Context, tx *sql.Tx, text string) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_notify($1, $2)`, purgesChannel, encodePurge(p.node, text)); err != nil {
		return fmt.Errorf("announcing a purge: %w", err)
	}
	return nil
}

// An announcement of a purge is text: a line with its format and the node that made
// it, and the purge's own line.
func encodePurge(node, text string) string { return announcementFormat + " " + node + "\n" + text }

func decodePurge(payload string) (node, text string, err error) {
	head, text, _ := strings.Cut(payload, "\n")
	format, node, _ := strings.Cut(head, " ")
	switch {
	case strings.HasPrefix(format, announcementPrefix) && format != announcementFormat:
		return "", "", errNewerFormat
	case format != announcementFormat, node == "", text == "", strings.Contains(text, "\n"):
		return "", "", errGarbage
	}
	return node, text, nil
}

// receivePurge passes on what another node has purged. We have done ours.
func (p *postgresDB) receivePurge(payload string, f follower) {
	node, text, err := decodePurge(payload)
	switch {
	case errors.Is(err, errNewerFormat):
		p.logger.Warn("nothing that is cached can be relied on", "error", err)
		f.gap()
	case err != nil:
		p.logger.Warn("ignoring a message to the channel of purges", "error", err, "channel", purgesChannel, "bytes", len(payload))
	case node != p.node:
		f.purged(text)
	}
}
