package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// copySource is a database as it was at one moment, for reading.
type copySource struct {
	db       *DB
	pool     *sql.DB
	tx       *sql.Tx
	identity string
}

// errNotOurs says that there is a database, and none of this program.
var errNotOurs = errors.New("it holds no data of this program")

// openCopySource makes and changes nothing. The schema must be this binary's.
func openCopySource(ctx context.Context, cfg Config) (s *copySource, err error) {
	db, err := New(cfg)
	if err != nil {
		return nil, err
	}
	s = &copySource{db: db}
	defer func() {
		if err != nil {
			err = errors.Join(db.classify(err), s.close())
			s = nil
		}
	}()
	if s.pool, err = db.dialect.openBulk(ctx); err != nil {
		return s, err
	}
	if s.pool == nil {
		return s, errors.New("it does not exist")
	}
	err = migrations.Check(ctx, s.pool, db.dialect.migrations())
	if pending := (*PendingError)(nil); errors.As(err, &pending) {
		if pending.Database == 0 {
			return s, errNotOurs
		}
		return s, fmt.Errorf("its schema is version %d and this binary's is %d: run `caddy llm-proxy migrate up` on it first", pending.Database, pending.Binary)
	}
	if err != nil {
		return s, err
	}
	if s.tx, err = readOnly(ctx, s.pool); err != nil {
		return s, fmt.Errorf("beginning to read: %w", err)
	}
	if err = refuseUnfinished(ctx, s.tx); err != nil {
		return s, err
	}
	if s.identity, err = readMeta(ctx, s.tx, metaIdentity); err == nil && s.identity == "" {
		err = errors.New("its table meta lacks the row identity: the schema was changed by hand")
	}
	return s, err
}

func (s *copySource) close() error {
	var errs []error
	if s.tx != nil {
		errs = append(errs, s.tx.Rollback())
	}
	if s.pool != nil {
		errs = append(errs, s.pool.Close())
	}
	return errors.Join(append(errs, s.db.Close())...)
}

// holdsData reports whether there is anything that somebody would miss.
func holdsData(ctx context.Context, q querier) (bool, error) {
	for _, table := range copiedTables {
		if table.made {
			continue
		}
		var rows int
		if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM `+table.name+` LIMIT 1) AS found`).Scan(&rows); err != nil {
			return false, fmt.Errorf("looking for data: %w", err)
		}
		if rows > 0 {
			return true, nil
		}
	}
	return false, nil
}
