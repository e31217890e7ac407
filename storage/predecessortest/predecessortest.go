// Package predecessortest makes databases as sofatutor/llm-proxy leaves them, for
// tests of what is imported from there.
package predecessortest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/sofatutor/caddy-llm-proxy/storage" // the drivers
)

// Schema is a version of the predecessor's schema.
type Schema int

const (
	First  Schema = iota // tokens without an id, openai_api_key, no deactivated_at
	Latest               // with everything, and metadata of tokens
)

// Row is a row to insert, by column.
type Row map[string]any

// Database is one of the predecessor's.
type Database struct {
	DSN      string
	Postgres bool
	pool     *sql.DB
}

// SQLite makes one in a file with a write-ahead log, as the predecessor does. It
// stays open until [Database.Close], or the end of the test.
func SQLite(tb testing.TB, schema Schema) *Database {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "llm-proxy.db")
	d := open(tb, "sqlite", path, "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	d.create(tb, schema, "DATETIME", "TEXT")
	return d
}

// Postgres makes one in an empty PostgreSQL database.
func Postgres(tb testing.TB, url string, schema Schema) *Database {
	tb.Helper()
	d := open(tb, "pgx", url, url)
	d.Postgres = true
	d.Exec(tb, `SET synchronous_commit = off`)
	d.create(tb, schema, "TIMESTAMP", "UUID")
	return d
}

func open(tb testing.TB, driver, dsn, source string) *Database {
	tb.Helper()
	pool, err := sql.Open(driver, source)
	if err != nil {
		tb.Fatal(err)
	}
	pool.SetMaxOpenConns(1)
	d := &Database{DSN: dsn, pool: pool}
	tb.Cleanup(d.Close)
	return d
}

// create makes the tables. Times and ids of tokens have types of their own.
func (d *Database) create(tb testing.TB, schema Schema, at, id string) {
	tb.Helper()
	key, projectTimes, tokenKey, tokenTimes, outcomes := "openai_api_key", "", "token TEXT PRIMARY KEY", "", "'success', 'failure'"
	if schema == Latest {
		key, projectTimes = "api_key", "deactivated_at "+at+","
		tokenKey = "id " + id + " PRIMARY KEY, token TEXT NOT NULL UNIQUE"
		tokenTimes = "deactivated_at " + at + ", cache_hit_count INTEGER NOT NULL DEFAULT 0, metadata TEXT,"
		outcomes += ", 'denied', 'error'"
	}
	d.Exec(tb, `CREATE TABLE projects (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, `+key+` TEXT NOT NULL,
		is_active BOOLEAN NOT NULL DEFAULT TRUE, `+projectTimes+`
		created_at `+at+` NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at `+at+` NOT NULL DEFAULT CURRENT_TIMESTAMP)`)
	d.Exec(tb, `CREATE TABLE tokens (`+tokenKey+`, project_id TEXT NOT NULL, expires_at `+at+`, is_active BOOLEAN NOT NULL DEFAULT TRUE,
		`+tokenTimes+` request_count INTEGER NOT NULL DEFAULT 0, max_requests INTEGER,
		created_at `+at+` NOT NULL DEFAULT CURRENT_TIMESTAMP, last_used_at `+at+`)`)
	d.Exec(tb, `CREATE TABLE audit_events (id TEXT PRIMARY KEY, timestamp `+at+` NOT NULL, action TEXT NOT NULL, actor TEXT NOT NULL,
		project_id TEXT, request_id TEXT, correlation_id TEXT, client_ip TEXT, method TEXT, path TEXT, user_agent TEXT,
		outcome TEXT NOT NULL CHECK (outcome IN (`+outcomes+`)), reason TEXT, token_id TEXT, metadata TEXT)`)
}

// Exec runs a statement.
func (d *Database) Exec(tb testing.TB, query string, args ...any) {
	tb.Helper()
	if _, err := d.pool.Exec(query, args...); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
}

// Insert adds a row.
func (d *Database) Insert(tb testing.TB, table string, row Row) {
	tb.Helper()
	columns := slices.Sorted(maps.Keys(row))
	var args []any
	var params []string
	for i, c := range columns {
		args = append(args, row[c])
		params = append(params, fmt.Sprintf("$%d", i+1))
	}
	d.Exec(tb, `INSERT INTO `+table+` (`+strings.Join(columns, ", ")+`) VALUES (`+strings.Join(params, ", ")+`)`, args...)
}

// Close disconnects, as the end of the predecessor does.
func (d *Database) Close() { _ = d.pool.Close() }

// NewToken makes the text of a token.
func NewToken() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	raw[0] &= 1              // a time before the year 2500
	return "sk-" + base64.RawURLEncoding.EncodeToString(raw[:])
}

// Hash is what is stored of a token when there is an ENCRYPTION_KEY.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Encrypt is what is stored of a key then; key is the ENCRYPTION_KEY.
func Encrypt(tb testing.TB, key, plain string) string {
	tb.Helper()
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		tb.Fatal(err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		tb.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		tb.Fatal(err)
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails since Go 1.24
	return "enc:v1:" + base64.StdEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(plain), nil))
}
