package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const (
	// rotatePasses bounds how often rows are gone through for those that others
	// write under an older key at the same time.
	rotatePasses = 3

	// maxUnopened bounds the rows that a report names.
	maxUnopened = 1000
)

// RotateProgress is how far a rotation has come.
type RotateProgress struct {
	Table    string
	Seen     int64 // rows of all tables; it begins anew with each pass
	Rows     int64 // that there were at the start
	Resealed int64 // in all passes
}

// RotateReport is what a rotation did.
type RotateReport struct {
	KeyID    string // of the first key
	Rows     int64  // looked at in the last pass
	Resealed int64

	// Unopened are rows that were left as they are, because they are damaged or
	// their key is not configured: all of them counted, the first ones named.
	Unopened     []UnopenedRow
	UnopenedRows int64

	// Older counts the rows under older keys that open: somebody keeps writing
	// with another first key.
	Older int64
}

// Clean reports that the first key is the only one that is needed.
func (r *RotateReport) Clean() bool { return r.UnopenedRows == 0 && r.Older == 0 }

// UnopenedRow is a sealed row that does not open.
type UnopenedRow struct {
	Table string
	ID    string // the primary key
	Err   error
}

// Rotate seals all rows under the first key that are not, a small batch at a
// time. Readers and writers go on, as long as they have the first key: a row that
// changes meanwhile keeps what was written. It may end at any point, and another
// Rotate goes on. Rows that do not open are left alone and reported.
//
// Secrets stay the same, so nobody is told of a change. progress, which may be
// nil, is called after each batch.
func (db *DB) Rotate(ctx context.Context, progress func(RotateProgress)) (*RotateReport, error) {
	return (&rotation{db: db, progress: progress}).run(ctx)
}

// rotation is one call of Rotate.
type rotation struct {
	db           *DB
	progress     func(RotateProgress)
	beforeCommit func() // tests stop here

	at     RotateProgress
	report RotateReport // of this pass, but for Resealed
	broken int64        // damaged rows that name an older key, which the status counts
}

func (r *rotation) run(ctx context.Context) (*RotateReport, error) {
	status, err := r.db.EncryptionStatus(ctx)
	if err != nil {
		return nil, err
	}
	r.at.Rows = status.Rows()
	for pass := 1; ; pass++ {
		r.at.Seen, r.broken = 0, 0
		r.report = RotateReport{KeyID: status.Keys[0], Resealed: r.report.Resealed}
		for _, place := range sealedPlaces {
			r.at.Table = place.table
			if err := r.table(ctx, place); err != nil {
				return nil, fmt.Errorf("re-sealing %s: %w", place.table, r.db.classify(err))
			}
		}
		if status, err = r.db.EncryptionStatus(ctx); err != nil {
			return nil, err
		}
		r.report.Rows = r.at.Seen
		r.report.Older = max(0, status.Older()-r.broken)
		if r.report.Older == 0 || pass == rotatePasses {
			return &r.report, nil
		}
	}
}

// sealedRow is a row of a [sealedPlace].
type sealedRow struct {
	values   []string // of columns
	old, new []byte   // envelopes
}

// table goes through a table in the order of its primary key.
func (r *rotation) table(ctx context.Context, place sealedPlace) error {
	after := ""
	for first := true; ; first = false {
		rows, err := r.read(ctx, place, first, after)
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := r.reseal(ctx, place, rows); err != nil {
			return err
		}
		r.at.Seen += int64(len(rows))
		after = rows[len(rows)-1].values[0]
		if r.progress != nil {
			r.progress(r.at)
		}
		if len(rows) < place.batch {
			return nil
		}
	}
}

// read returns the next batch.
func (r *rotation) read(ctx context.Context, place sealedPlace, first bool, after string) ([]sealedRow, error) {
	c, err := r.db.open()
	if err != nil {
		return nil, err
	}
	var w where
	if !first {
		w.add(place.columns[0]+" > ?", after)
	}
	rows, err := c.read.QueryContext(ctx, fmt.Sprintf(`SELECT sealed, %s FROM %s%s ORDER BY %s LIMIT %d`,
		strings.Join(place.columns, ", "), place.table, w.String(), place.columns[0], place.batch), w.args...)
	if err != nil {
		return nil, err
	}
	var list []sealedRow
	err = eachRow(rows, func() error {
		row := sealedRow{values: make([]string, len(place.columns))}
		dest := []any{&row.old}
		for i := range row.values {
			dest = append(dest, &row.values[i])
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		list = append(list, row)
		return nil
	})
	return list, err
}

// reseal writes those rows of a batch that need it, in one transaction. All
// rotations write in the same order, so they do not lock each other out.
func (r *rotation) reseal(ctx context.Context, place sealedPlace, rows []sealedRow) error {
	var todo []sealedRow
	for _, row := range rows {
		resealed, err := r.db.keyring.Reseal(place.aad(row.values), row.old)
		switch {
		case err != nil:
			r.unopened(place, row, err)
		case resealed != nil:
			row.new = resealed
			todo = append(todo, row)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	var changed int64
	err := r.patiently(ctx, func(tx *Tx) error {
		changed = 0
		for _, row := range todo {
			// Whoever changed the row meanwhile has sealed it: that stays.
			n, err := affected(tx.tx.ExecContext(ctx,
				fmt.Sprintf(`UPDATE %s SET sealed = $1 WHERE %s = $2 AND sealed = $3`, place.table, place.columns[0]), row.new, row.values[0], row.old))
			if err != nil {
				return fmt.Errorf("row %s: %w", row.values[0], tx.fail(err))
			}
			changed += n
		}
		if r.beforeCommit != nil {
			r.beforeCommit()
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.report.Resealed += changed
	r.at.Resealed += changed
	return nil
}

// patiently waits for its turn for as long as it takes, and then leaves others
// as much time as it took itself: SQLite gives the write lock to whoever happens
// to ask when it is free, and those who wait ask ever less often.
func (r *rotation) patiently(ctx context.Context, fn func(tx *Tx) error) error {
	for {
		var began time.Time
		err := r.db.Update(ctx, func(tx *Tx) error {
			began = time.Now()
			return fn(tx)
		})
		if errors.Is(err, ErrBusy) && ctx.Err() == nil {
			continue
		}
		if err == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Since(began)):
			}
		}
		return err
	}
}

func (r *rotation) unopened(place sealedPlace, row sealedRow, err error) {
	r.report.UnopenedRows++
	if len(r.report.Unopened) < maxUnopened {
		r.report.Unopened = append(r.report.Unopened, UnopenedRow{Table: place.table, ID: row.values[0], Err: err})
	}
	if errors.Is(err, secret.ErrOpen) && slices.Index(r.db.keyring.KeyIDs(), secret.EnvelopeKeyID(row.old)) > 0 && len(row.old) >= secret.MinEnvelope {
		r.broken++
	}
}
