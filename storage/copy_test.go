package storage

import (
	"bytes"

	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// onPairs runs a test with a database of each kind as source, without data, and as
// target, of which there is nothing yet: no file, an empty database.
func onPairs(t *testing.T, test func(t *testing.T, from, to string)) {
	pairs(t, true, test)
}

// acrossKinds is onPairs without pairs of one kind.
func acrossKinds(t *testing.T, test func(t *testing.T, from, to string)) {
	pairs(t, false, test)
}

func pairs(t *testing.T, equals bool, test func(t *testing.T, from, to string)) {
	fresh := map[string]func(t testing.TB) string{"sqlite": newFile, "postgres": newPostgresDSN}
	for _, from := range []string{"sqlite", "postgres"} {
		for _, to := range []string{"sqlite", "postgres"} {
			if from == to && !equals {
				continue
			}
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				test(t, fresh[from](t), nothing(t, to))
			})
		}
	}
}

// nothing is where a database of the kind may be made.
func nothing(t testing.TB, kind string) string {
	t.Helper()
	if kind == "sqlite" {
		return noFile(t)
	}
	return testdb.Postgres(t)
}

func copyDB(t testing.TB, from, to string, o CopyOptions) (*CopyReport, error) {
	t.Helper()
	return Copy(t.Context(), Config{Driver: driverOf(from), DSN: from}, Config{Driver: driverOf(to), DSN: to}, o)
}

// mustCopy copies, and returns the rows that were written and deleted.
func mustCopy(t testing.TB, from, to string, o CopyOptions) int64 {
	t.Helper()
	report, err := copyDB(t, from, to, o)
	if err != nil {
		t.Fatal(err)
	}
	return report.Changed()
}

// content is every row of every table that is copied, as text.
func content(t testing.TB, dsn string) map[string]string {
	t.Helper()
	raw := rawDB(t, dsn)
	defer raw.Close()
	all := make(map[string]string)
	for _, table := range copiedTables {
		columns, _, err := columnsOf(t.Context(), raw, table.name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := openStream(t.Context(), raw, table, columns)
		for ; err == nil && !s.ended; err = s.next() {
			all[table.name+" "+s.current.String()] = string(encodeRow(nil, s.row))
		}
		if err != nil {
			t.Fatal(err)
		}
		s.close()
	}
	return all
}

func sameContent(t testing.TB, want map[string]string, dsn string) {
	t.Helper()
	got := content(t, dsn)
	if len(got) != len(want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
	for key, row := range want {
		if got[key] != row {
			t.Fatalf("%s is\n%.200q, want\n%.200q", key, got[key], row)
		}
	}
}

func metaOf(t testing.TB, dsn, name string) string {
	t.Helper()
	raw := rawDB(t, dsn)
	defer raw.Close()
	value, err := readMeta(t.Context(), raw, name)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// moved is a database with rows of every kind and odd values.
type moved struct {
	secrets  []token.Secret
	projects []project.Project
	pepper   []byte
}

func makeMoved(t testing.TB, dsn string, tokens int) *moved {
	t.Helper()
	db := openDB(t, dsn)
	m := &moved{pepper: bytes.Clone(db.Pepper())}
	names := []string{"plain", "ünïcødé 漢字 \U0001f980", "quo'te\" -- \\ %s $1", strings.Repeat("ß", 120), "tab\tnew\nline"}
	for i, name := range names {
		p := project.Project{Name: name, Active: i%2 == 0, UseSharedKeys: i%3 == 0}
		p.Policy.Metadata = map[string]string{"né": "wört"}
		err := db.Update(t.Context(), func(tx *Tx) error {
			if err := tx.CreateProject(t.Context(), &p); err != nil {
				return err
			}
			key := project.Key{ProjectID: p.ID, Provider: "openai", Label: "läbel", Weight: 1 + i, Active: i != 1}
			return errors.Join(tx.CreateKey(t.Context(), &key, secret.NewValue(keySecret(i))),
				tx.Audit(t.Context(), audit.Entry{Action: audit.ProjectCreate, Outcome: audit.OutcomeSuccess, TargetID: p.ID, Reason: name,
					Changes: map[string]audit.Change{"name": {After: name}}}),
				tx.Audit(t.Context(), audit.Entry{Action: audit.ManagementLogin, Outcome: audit.OutcomeDenied}))
		})
		if err != nil {
			t.Fatal(err)
		}
		m.projects = append(m.projects, p)
	}
	for len(m.secrets) < tokens {
		m.addTokens(t, db, min(tokens-len(m.secrets), 500))
	}
	for i, size := range []int{0, 1, 100_000} {
		if err := db.Certs().Store(t.Context(), fmt.Sprintf("acme/ü/%d.key", i), bytes.Repeat([]byte{0, 255, byte(i)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	addEvents(t, db)
	addLedger(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

// addTokens makes tokens that authenticate, in one transaction.
func (m *moved) addTokens(t testing.TB, db *DB, n int) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *Tx) error {
		for i := range n {
			_, s, err := token.Mint(tx.now)
			if err != nil {
				return err
			}
			hash := s.Hash(db.Pepper())
			tok := token.Token{ID: s.ID, ProjectID: m.projects[i%len(m.projects)].ID, Name: fmt.Sprint("tökén ", i), Active: true, Hash: hash[:], HashScheme: token.SchemeHMAC}
			if i%3 == 0 {
				at := tx.now
				tok.ExpiresAt, tok.RevokedAt, tok.Active = &at, &at, false
			}
			if err := tx.CreateToken(t.Context(), &tok); err != nil {
				return err
			}
			m.secrets = append(m.secrets, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// authenticates asks a database for every token, and for what its project needs.
func (m *moved) authenticates(t testing.TB, dsn string) {
	t.Helper()
	db := openDB(t, dsn)
	defer db.Close()
	if !bytes.Equal(db.Pepper(), m.pepper) {
		t.Error("another pepper")
	}
	for _, s := range m.secrets {
		record, err := db.LoadToken(t.Context(), s.ID)
		if err != nil || !s.Matches(record.Token.HashScheme, record.Token.Hash, db.Pepper()) {
			t.Fatalf("token %s does not authenticate: %v", s.ID, err)
		}
		for _, c := range record.Project.Credentials {
			if c.Err != nil {
				t.Fatal(c.Err)
			}
		}
	}
}

// TestCopy copies to and fro, twice, with changes in between.
func TestCopy(t *testing.T) {
	t.Parallel()
	onPairs(t, testCopy)
}

func testCopy(t *testing.T, from, to string) {
	m := makeMoved(t, from, 601)
	if driverOf(from) != driverOf(to) {
		large := openDB(t, from)
		for _, name := range []string{"large/1", "large/2"} { // each more than a batch
			if err := large.Certs().Store(t.Context(), name, bytes.Repeat([]byte(name), transferBytes/len(name)+1)); err != nil {
				t.Fatal(err)
			}
		}
		large.Close()
	}
	var last CopyProgress
	report, err := copyDB(t, from, to, CopyOptions{Progress: func(p CopyProgress) {
		if p.Seen < last.Seen || p.Written < last.Written || p.Rows < p.Seen || p.Table == "" {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := content(t, from)
	if report.Changed() != int64(len(want)) || last.Seen != int64(len(want)) || last.Written != last.Seen || len(report.Differing()) > 0 {
		t.Errorf("%d rows: %+v, %+v", len(want), report, last)
	}
	for _, table := range report.Tables {
		if table.Rows == 0 || len(table.Checksum) != 64 {
			t.Errorf("%+v", table)
		}
	}
	sameContent(t, want, to)
	epoch := metaOf(t, to, metaEpoch)
	if epoch == "" || metaOf(t, to, metaCopy) != "" || metaOf(t, to, metaIdentity) == metaOf(t, from, metaIdentity) {
		t.Error("the target does not know what it is")
	}
	again, err := copyDB(t, from, to, CopyOptions{})
	if err != nil || again.Changed() != 0 || metaOf(t, to, metaEpoch) != epoch {
		t.Errorf("a second time: %+v, %v", again, err)
	}
	for i := range again.Tables {
		if again.Tables[i].Checksum != report.Tables[i].Checksum {
			t.Errorf("checksums of the same rows differ: %+v", again.Tables[i])
		}
	}

	// Names change hands, rows go, come and change.
	db := openDB(t, from)
	one, two := m.projects[0].ID, m.projects[1].ID
	exec(t, db, `UPDATE projects SET name = 'held' WHERE id = $1`, one)
	exec(t, db, `UPDATE projects SET name = $1 WHERE id = $2`, m.projects[0].Name, two)
	exec(t, db, `UPDATE projects SET name = $1 WHERE id = $2`, m.projects[1].Name, one)
	exec(t, db, `DELETE FROM tokens WHERE project_id = $1`, m.projects[2].ID)
	exec(t, db, `DELETE FROM provider_keys WHERE project_id = $1`, m.projects[2].ID)
	exec(t, db, `DELETE FROM projects WHERE id = $1`, m.projects[2].ID)
	heir := project.Project{Name: m.projects[2].Name, Active: true}
	if err := db.Update(t.Context(), func(tx *Tx) error { return tx.CreateProject(t.Context(), &heir) }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if changed := mustCopy(t, from, to, CopyOptions{}); changed == 0 || changed > 300 {
		t.Errorf("%d rows were changed", changed)
	}
	want = content(t, from)
	sameContent(t, want, to)
	m.secrets = slices.DeleteFunc(m.secrets, func(s token.Secret) bool { return want["tokens "+s.ID.String()] == "" })
	m.authenticates(t, to)
}

// TestCopyRefuses has targets that somebody would miss, and sources that are none.
func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	acrossKinds(t, testCopyRefuses)
}

func testCopyRefuses(t *testing.T, from, to string) {
	refused := func(from, to string, words string, kind error) {
		t.Helper()
		_, err := copyDB(t, from, to, CopyOptions{})
		if err == nil || !strings.Contains(err.Error(), words) || kind != nil && !errors.Is(err, kind) || strings.Contains(err.Error(), "postgres://") {
			t.Errorf("%v, want %q", err, words)
		}
	}
	missing := nothing(t, driverOf(from))
	if driverOf(from) == "sqlite" {
		refused(missing, to, "does not exist", nil)
	} else {
		refused(missing, to, "no data of this program", nil)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("the source was made")
	}
	makeMoved(t, from, 3)
	refused(from, from, "same database", nil)

	openDB(t, to).Close() // a server that was started once
	mustCopy(t, from, to, CopyOptions{})
	before := content(t, to)
	openDB(t, to).Close()
	refused(from, to, "in use", ErrHoldsData)
	sameContent(t, before, to)
	if changed := mustCopy(t, from, to, CopyOptions{Replace: true}); changed != 0 {
		t.Errorf("%d rows of a copy changed", changed)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	m := makeMoved(t, other, 5)
	refused(other, to, "in use", ErrHoldsData)
	mustCopy(t, other, to, CopyOptions{Replace: true})
	sameContent(t, content(t, other), to)
	m.authenticates(t, to)

	exec(t, openDB(t, from), `INSERT INTO meta (name, value) VALUES ('copy', 'x')`)
	refused(from, to, "unfinished copy", ErrUnfinished)
	exec(t, configurePartial(t, from), `DELETE FROM meta WHERE name = 'copy'`)
	latest, err := migrations.Latest(migrations.Dialect(driverOf(from)))
	if err != nil {
		t.Fatal(err)
	}
	db := openDB(t, from)
	exec(t, db, `INSERT INTO `+migrations.Table+` (version_id, is_applied) VALUES (999, TRUE)`)
	refused(from, to, "999", nil)
	exec(t, db, `DELETE FROM `+migrations.Table+` WHERE version_id IN (999, $1)`, latest)
	refused(from, to, "migrate up", nil)
	refused(other, from, "older version", ErrHoldsData)
	db.Close()
}

// configurePartial opens a database that a start would refuse.
func configurePartial(t *testing.T, dsn string) *DB {
	t.Helper()
	db := newDB(t, dsn)
	db.partial = true
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestCopyIntoAnotherProgram leaves other tables alone.
func TestCopyIntoAnotherProgram(t *testing.T) {
	t.Parallel()
	acrossKinds(t, func(t *testing.T, from, to string) {
		makeMoved(t, from, 1)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); driverOf(to) == "sqlite" && err != nil {
			t.Fatal(err)
		}
		raw := rawDB(t, to)
		mustExec(t, raw, `CREATE TABLE projects (id TEXT)`)
		if _, err := copyDB(t, from, to, CopyOptions{Replace: true}); err == nil || !strings.Contains(err.Error(), "another program") {
			t.Error(err)
		}
		if _, err := copyDB(t, to, from, CopyOptions{Replace: true}); !errors.Is(err, errNotOurs) {
			t.Error(err)
		}
	})
}

// TestCopyNamesBadText has text that SQLite takes and PostgreSQL does not.
func TestCopyNamesBadText(t *testing.T) {
	t.Parallel()
	from := filepath.Join(t.TempDir(), "x.db")
	makeMoved(t, from, 1)
	id := uuid.Must(uuid.NewV7()).String()
	db := openDB(t, from)
	exec(t, db, `INSERT INTO projects (id, name, name_folded, is_active, version, created_at, updated_at) VALUES ($1, CAST(x'ff41' AS TEXT), '', TRUE, 1, 1, 1)`, id)
	db.Close()
	if _, err := copyDB(t, from, testdb.Postgres(t), CopyOptions{}); err == nil || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), "UTF-8") {
		t.Error(err)
	}
}
