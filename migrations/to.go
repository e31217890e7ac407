package migrations

import (
	"context"
	"database/sql"
	"fmt"
)

// To migrates the database up or down to a version and returns the versions
// before and after. Going down loses what the newer schema held. Version 0 is the
// empty schema. A database newer than the binary is left alone:
// [*NewerSchemaError].
func To(ctx context.Context, db *sql.DB, dialect Dialect, target int64) (before, after int64, err error) {
	p, err := newProvider(db, dialect)
	if err != nil {
		return 0, 0, err
	}
	newest := latest(p)
	if target < 0 || target > newest {
		return 0, 0, fmt.Errorf("there is no version %d: expected 0 to %d", target, newest)
	}
	if before, err = version(ctx, db, dialect); err != nil {
		return 0, 0, err
	}
	switch {
	case before > newest:
		return before, before, &NewerSchemaError{Database: before, Binary: newest}
	case target > before:
		if _, err = p.UpTo(ctx, target); err != nil {
			err = upError(err)
		}
	case target < before:
		if _, err = p.DownTo(ctx, target); err != nil {
			err = fmt.Errorf("taking migrations back: %w", err)
		}
	}
	after, versionErr := version(ctx, db, dialect)
	if err == nil {
		err = versionErr
	}
	return before, after, err
}
