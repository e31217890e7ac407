package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// population is a database with many tokens, of which some are known in clear.
type population struct {
	engine   engine
	name     string
	dsn      string
	db       *storage.DB
	projects []string // ids
	from, to time.Time
	rows     int
	probes   []string // tokens to ask for, in no order
}

// engine is a kind of database.
type engine string

const (
	sqliteEngine   engine = "SQLite"
	postgresEngine engine = "PostgreSQL"
)

var engines = []engine{sqliteEngine, postgresEngine}

const (
	populationProjects = 50
	// populationSpan is over how long the tokens were issued.
	populationSpan = 90 * 24 * time.Hour
	// fillChunk is how many rows are made by one statement.
	fillChunk = 250_000
	// rowBytes is what a token takes up in both databases together, indexes,
	// logs and room to build them included.
	rowBytes = 1600
)

// population returns a database with so many tokens, and makes it if need be.
func (l *lab) population(ctx context.Context, e engine, rows int) (*population, error) {
	for _, p := range l.populations {
		if p.engine == e && p.rows == rows {
			return p, nil
		}
	}
	p := &population{engine: e, name: fmt.Sprintf("%s, %s tokens", e, thousands(float64(rows))), rows: rows}
	p.to = time.Now().Add(-time.Hour).Truncate(time.Second)
	p.from = p.to.Add(-populationSpan)
	var err error
	if p.dsn, err = l.emptyDatabase(e, rows); err != nil {
		return nil, err
	}
	l.populations = append(l.populations, p)
	probes := min(rows, smallPopulation*(l.opts.rounds+1)) // the small one is nothing else
	if err := p.fill(ctx, rows-probes); err != nil {
		return nil, fmt.Errorf("filling %s: %w", p.name, err)
	}
	if err := p.addProbes(ctx, probes); err != nil {
		return nil, fmt.Errorf("filling %s: %w", p.name, err)
	}
	return p, nil
}

// emptyDatabase makes a place for a population.
func (l *lab) emptyDatabase(e engine, rows int) (dsn string, err error) {
	if free := freeBytes(l.dir); free >= 0 && free < int64(rows)*rowBytes {
		return "", fmt.Errorf("%s tokens need %d GB in %s, where %d GB are free: choose fewer with -tokens, or another directory with TMPDIR",
			thousands(float64(rows)), int64(rows)*rowBytes>>30+1, l.dir, free>>30)
	}
	if e == sqliteEngine {
		return filepath.Join(l.dir, fmt.Sprintf("tokens-%d.db", rows)), nil
	}
	server, err := l.postgres()
	if err != nil {
		return "", err
	}
	return server.database()
}

func (p *population) driver() (ours, sqls string) {
	if p.engine == sqliteEngine {
		return "sqlite", "sqlite"
	}
	return "postgres", "pgx"
}

// open connects as the proxy does.
func (p *population) open(ctx context.Context) error {
	keys, err := secret.NewKeyring([]byte(strings.Repeat("k", secret.KeySize)))
	if err != nil {
		return err
	}
	driver, _ := p.driver()
	if p.db, err = storage.New(storage.Config{Driver: driver, DSN: p.dsn, Keyring: keys}); err != nil {
		return err
	}
	return p.db.Open(ctx)
}

func (p *population) close() error {
	if p.db == nil {
		return nil
	}
	return p.db.Close()
}

// fill makes the schema, the projects with a key each, and rows that nobody
// will ask for: the database computes them. Nothing is synced meanwhile.
func (p *population) fill(ctx context.Context, rows int) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	err := p.db.Update(ctx, func(tx *storage.Tx) error {
		p.projects = p.projects[:0]
		for i := range populationProjects {
			one := &project.Project{Name: fmt.Sprintf("project %d", i), Active: true}
			if err := tx.CreateProject(ctx, one); err != nil {
				return err
			}
			key := &project.Key{ProjectID: one.ID, Provider: "openai", Weight: 1, Active: true}
			if err := tx.CreateKey(ctx, key, secret.NewValue(providerKey)); err != nil {
				return err
			}
			p.projects = append(p.projects, one.ID.String())
		}
		return nil
	})
	if err != nil || rows == 0 {
		return err
	}
	if err := p.db.Close(); err != nil { // SQLite: the pragmas below want the file alone
		return err
	}
	if err := p.generate(ctx, rows); err != nil {
		return err
	}
	return p.open(ctx)
}

// The rows are spread evenly over the span by their number i; ids are UUIDv7 of
// that time. Parameters: first and last number, start and span in milliseconds,
// number of rows, the projects' ids in one text.
const (
	fillSQLite = `WITH RECURSIVE n (i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i < $2),
		m (i, ms) AS (SELECT i, $3 + i * $4 / $5 FROM n)
		INSERT INTO tokens (id, project_id, name, name_folded, is_active, expires_at, hash, hash_scheme, version, created_at, updated_at)
		SELECT printf('%08x-%04x-7%03x-%04x-%012x', ms >> 16, ms & 65535, random() & 4095, 32768 | random() & 16383, random() & 281474976710655),
			substr($6, 1 + 36 * (i % ` + projectsText + `), 36), 'token ' || i, 'token ' || i, TRUE, (ms + 2592000000) * 1000, randomblob(32), 'hmac-sha256', 1, ms * 1000, ms * 1000 FROM m`

	fillPostgres = `INSERT INTO tokens (id, project_id, name, name_folded, is_active, expires_at, hash, hash_scheme, version, created_at, updated_at)
		SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(r, 1, 3) || '8' || substr(r, 4, 15))::uuid,
			substr($6::text, 1 + 36 * (i % ` + projectsText + `)::int, 36)::uuid, 'token ' || i, 'token ' || i, TRUE, (ms + 2592000000) * 1000, decode(r || r, 'hex'), 'hmac-sha256', 1, ms * 1000, ms * 1000
		FROM (SELECT i, $3::bigint + i * $4::bigint / $5::bigint AS ms, md5(random()::text || i) AS r FROM generate_series($1::bigint, $2::bigint) i) n`

	projectsText = "50"
)

func (p *population) generate(ctx context.Context, rows int) (err error) {
	_, driver := p.driver()
	dsn, insert := p.dsn, fillPostgres
	prepare := []string{`SET session_replication_role = replica`, `SET synchronous_commit = off`} // no foreign keys are checked
	if p.engine == sqliteEngine {
		insert = fillSQLite
		prepare = []string{`PRAGMA locking_mode = EXCLUSIVE`, `PRAGMA journal_mode = OFF`, `PRAGMA synchronous = OFF`, `PRAGMA cache_size = -500000`}
	}
	pool, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, statement := range prepare {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	for first := 0; first < rows; first += fillChunk {
		last := min(first+fillChunk, rows) - 1
		_, err := conn.ExecContext(ctx, insert, first, last, p.from.UnixMilli(), populationSpan.Milliseconds(), rows, strings.Join(p.projects, ""))
		if err != nil {
			return err
		}
	}
	return nil
}

// addProbes makes tokens that are asked for, among all others by their time.
func (p *population) addProbes(ctx context.Context, n int) error {
	const batch = 1000
	for len(p.probes) < n {
		var minted []string
		err := p.db.Update(ctx, func(tx *storage.Tx) error {
			minted = minted[:0]
			for range min(batch, n-len(p.probes)) {
				text, parsed, err := token.Mint(p.from.Add(rand.N(populationSpan)))
				if err != nil {
					return err
				}
				hash := parsed.Hash(p.db.Pepper())
				t := &token.Token{ID: parsed.ID, Active: true, Hash: hash[:], HashScheme: token.SchemeHMAC, CreatedAt: parsed.IssuedAt()}
				if t.ProjectID, err = parseID(p.projects[rand.N(len(p.projects))]); err != nil {
					return err
				}
				if err := tx.CreateToken(ctx, t); err != nil {
					return err
				}
				minted = append(minted, text)
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.probes = append(p.probes, minted...)
	}
	return nil
}

// settle does what would otherwise begin during a measurement, has the system
// read the file into memory, as far as it fits, and checks the size.
func (p *population) settle(ctx context.Context) error {
	if p.engine == sqliteEngine {
		file, err := os.Open(p.dsn)
		if err != nil {
			return err
		}
		defer file.Close()
		if _, err := io.Copy(io.Discard, file); err != nil {
			return err
		}
	}
	if p.engine == postgresEngine {
		pool, err := sql.Open("pgx", p.dsn)
		if err != nil {
			return err
		}
		defer pool.Close()
		for _, statement := range []string{`VACUUM ANALYZE`, `CHECKPOINT`} {
			if _, err := pool.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
	}
	n, err := p.db.CountTokens(ctx, storage.TokenFilter{})
	if err == nil && n != int64(p.rows) {
		err = fmt.Errorf("%s holds %d", p.name, n)
	}
	return err
}
