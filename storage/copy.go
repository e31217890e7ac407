package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// copyPatience is how long a copy waits for another process that keeps the target
// locked.
const copyPatience = time.Minute

// ErrHoldsData says that a copy or a restore would destroy what is there.
var ErrHoldsData = errors.New("the database holds data of its own")

// CopyOptions are those of [Copy], [Restore] and [DB.Backup].
type CopyOptions struct {
	Replace  bool               // what the target holds may be lost
	Progress func(CopyProgress) // called after each batch; may be nil

	inside func() // tests stop here, before a commit
}

// Copy makes the target hold what the source holds at this moment. The source may be
// served meanwhile, and must have this binary's schema; the target is made and
// migrated. Rows that are the same already are not written, so a copy that was
// interrupted goes on when it is run again; until then the target cannot be opened.
//
// Envelopes are copied as they are: the target needs the same encryption keys. A
// target with data that is not of an earlier copy of the same source, or that was in
// use since, is refused: [ErrHoldsData]. Keyrings of the configurations are not used.
//
// In the end both sides have been read in full and compared; when they differ there
// are a report and an error.
func Copy(ctx context.Context, from, to Config, o CopyOptions) (*CopyReport, error) {
	ring, err := anyKeyring()
	if err != nil {
		return nil, err
	}
	from.Keyring, to.Keyring = ring, ring
	source, err := openCopySource(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("the source cannot be copied: %w", err)
	}
	defer source.close()
	report, err := copyInto(ctx, source, to, o)
	if err != nil {
		return report, fmt.Errorf("copying: %w", err)
	}
	return report, nil
}

// anyKeyring is for work that opens no envelope.
func anyKeyring() (*secret.Keyring, error) {
	key, err := secret.ParseKey(secret.NewKey())
	if err != nil {
		return nil, err
	}
	return secret.NewKeyring(key)
}

func copyInto(ctx context.Context, source *copySource, to Config, o CopyOptions) (_ *CopyReport, err error) {
	to.AnyKeys = true
	target, err := New(to)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	target.partial = true
	if !o.Replace {
		if err := target.refuseOldSchema(ctx); err != nil {
			return nil, err
		}
	}
	if err := target.Open(ctx); err != nil {
		return nil, fmt.Errorf("the target: %w", err)
	}
	c, err := target.open()
	if err != nil {
		return nil, err
	}
	unfinished, err := mayCopy(ctx, c.read, source.identity, o.Replace)
	if err != nil {
		return nil, err
	}
	bulk, err := target.dialect.openBulk(ctx)
	if err != nil {
		return nil, target.classify(err)
	}
	defer bulk.Close()

	t := &transfer{from: source.tx, to: bulk, progress: o.Progress}
	t.write = func(ctx context.Context, fn func(tx *Tx) error) error {
		err := target.patiently(ctx, func(tx *Tx) error {
			// With the first row: a copy that changes nothing leaves nothing.
			if !unfinished {
				if err := errors.Join(tx.setMeta(ctx, metaCopy, source.identity), tx.dropMeta(ctx, metaOrigin)); err != nil {
					return err
				}
			}
			err := fn(tx)
			if o.inside != nil {
				o.inside()
			}
			return err
		})
		unfinished = unfinished || err == nil
		return err
	}
	if err := t.run(ctx); err != nil {
		return nil, target.classify(err)
	}
	if err := t.verify(ctx, bulk); err != nil {
		return nil, target.classify(err)
	}
	if names := t.report.Differing(); len(names) > 0 {
		return &t.report, fmt.Errorf("%s differ from the source: something else writes to the target; stop it and run the copy again", strings.Join(names, ", "))
	}
	if !unfinished {
		return &t.report, nil
	}
	err = target.patiently(ctx, func(tx *Tx) error {
		return errors.Join(tx.dropMeta(ctx, metaCopy), tx.setMeta(ctx, metaOrigin, source.identity), tx.renumber(ctx), tx.rewritten(ctx))
	})
	return &t.report, err
}

// refuseOldSchema keeps a mistaken copy from migrating somebody's database.
func (db *DB) refuseOldSchema(ctx context.Context) error {
	list, err := db.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	applied, pending := false, false
	for _, m := range list {
		applied, pending = applied || m.Applied, pending || !m.Applied
	}
	if applied && pending {
		return fmt.Errorf("the target is a database of an older version: %w", ErrHoldsData)
	}
	return nil
}

// mayCopy decides whether the target may be written to, and reports whether it
// holds an unfinished copy.
func mayCopy(ctx context.Context, q querier, source string, replace bool) (unfinished bool, err error) {
	var meta [3]string
	for i, name := range []string{metaIdentity, metaCopy, metaOrigin} {
		if meta[i], err = readMeta(ctx, q, name); err != nil {
			return false, err
		}
	}
	switch identity, copying, origin := meta[0], meta[1], meta[2]; {
	case identity == source:
		return false, errors.New("source and target are the same database, or one is a backup of the other, which `caddy llm-proxy restore` is for")
	case copying == source:
		return true, nil
	case replace, origin == source:
		return false, nil
	case copying != "":
		return false, fmt.Errorf("the target holds an unfinished copy of another database: %w", ErrHoldsData)
	}
	data, err := holdsData(ctx, q)
	if err == nil && data {
		err = fmt.Errorf("the target is in use: %w", ErrHoldsData)
	}
	return false, err
}

// patiently is Update that waits for whoever keeps the database locked.
func (db *DB) patiently(ctx context.Context, fn func(tx *Tx) error) error {
	for began := time.Now(); ; {
		err := db.Update(ctx, fn)
		if !errors.Is(err, ErrBusy) || ctx.Err() != nil || time.Since(began) > copyPatience {
			return err
		}
	}
}

// readOnly is a pool as a [querier] of one moment.
func readOnly(ctx context.Context, pool *sql.DB) (*sql.Tx, error) {
	return pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
}
