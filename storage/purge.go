package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxPurgeText is how long the text of a purge may be: what else is in an
// announcement, too, must stay below the server's 8,000 bytes.
const maxPurgeText = 7000

// AnnouncePurge tells the other nodes of a purge of the response cache: listeners of
// their [DB.OnPurge] get the text, which is the host's and one line. It has been
// announced when AnnouncePurge returns nil. A SQLite database has no other nodes.
func (db *DB) AnnouncePurge(ctx context.Context, text string) error {
	switch {
	case text == "", strings.ContainsAny(text, "\x00\n"), !utf8.ValidString(text):
		return errors.New("the text of a purge must be one line of UTF-8")
	case len(text) > maxPurgeText:
		return fmt.Errorf("the text of a purge has %d bytes, at most %d are allowed", len(text), maxPurgeText)
	}
	if _, err := db.open(); err != nil {
		return err
	}
	if !db.dialect.hasNodes() {
		return nil
	}
	return db.Update(ctx, func(tx *Tx) error {
		if err := db.dialect.announcePurge(ctx, tx.tx, text); err != nil {
			return tx.fail(err)
		}
		return nil
	})
}

// OnPurge calls listener for every purge that another node has announced, in the
// order of their announcements. Some may have been missed when there was a gap: see
// [DB.OnGap]. The listener must not block. remove ends that; a call that is under way may
// still finish after it returns.
func (db *DB) OnPurge(listener func(text string)) (remove func()) {
	return db.purges.add(listener)
}
