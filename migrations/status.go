package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"path"
	"slices"
	"time"
)

// Unknown is the name of a migration that only the database knows.
const Unknown = "(unknown to this binary)"

// Status is one migration as seen from a database.
type Status struct {
	Version   int64
	Name      string // file name, or [Unknown]
	Applied   bool
	AppliedAt time.Time // UTC; zero unless Applied
}

// List returns every migration of the binary and of the database, oldest first.
// It only reads. A nil db stands for a database that does not exist yet: all
// migrations are pending.
func List(ctx context.Context, db *sql.DB, dialect Dialect) ([]Status, error) {
	p, err := newProvider(db, dialect)
	if err != nil {
		return nil, err
	}
	var list []Status
	for _, source := range p.ListSources() {
		list = append(list, Status{Version: source.Version, Name: path.Base(source.Path)})
	}
	if db == nil {
		return list, nil
	}
	store, exists, err := openStore(ctx, db, dialect)
	if err != nil || !exists {
		return list, err
	}
	rows, err := store.ListMigrations(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("listing applied migrations: %w", err)
	}
	for _, row := range rows {
		if !row.IsApplied || row.Version == 0 { // goose's own first row
			continue
		}
		found, err := store.GetMigration(ctx, db, row.Version)
		if err != nil {
			return nil, fmt.Errorf("listing applied migrations: %w", err)
		}
		i := slices.IndexFunc(list, func(s Status) bool { return s.Version == row.Version })
		if i < 0 {
			list = append(list, Status{Version: row.Version, Name: Unknown})
			i = len(list) - 1
		}
		list[i].Applied, list[i].AppliedAt = true, found.Timestamp.UTC()
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Version, b.Version) })
	return list, nil
}
