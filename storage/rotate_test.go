package storage

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// keyed is a database with secrets of every kind, sealed under one key.
type keyed struct {
	t       *testing.T
	dsn     string
	project project.Project
	keys    []project.Key
	token   token.Token
	pepper  []byte
	certs   int
}

func keySecret(n int) string { return fmt.Sprintf("sk-provider-key-%06d", n) }

// makeKeyed fills an empty database, under testKey(1).
func makeKeyed(t *testing.T, dsn string, keys, certs int) *keyed {
	t.Helper()
	db := openDB(t, dsn)
	k := &keyed{t: t, dsn: dsn, project: project.Project{Name: "keyed", Active: true}, keys: make([]project.Key, keys), pepper: bytes.Clone(db.Pepper()), certs: certs}
	err := db.Update(t.Context(), func(tx *Tx) error {
		if err := tx.CreateProject(t.Context(), &k.project); err != nil {
			return err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		k.token = token.Token{ID: id, ProjectID: k.project.ID, Active: true, Hash: make([]byte, token.HashSize), HashScheme: token.SchemeHMAC}
		return tx.CreateToken(t.Context(), &k.token)
	})
	if err != nil {
		t.Fatal(err)
	}
	for from := 0; from < keys; from += 1000 {
		err := db.Update(t.Context(), func(tx *Tx) error {
			for n := from; n < min(from+1000, keys); n++ {
				k.keys[n] = project.Key{ProjectID: k.project.ID, Provider: "openai", Weight: 1, Active: true}
				if err := tx.CreateKey(t.Context(), &k.keys[n], secret.NewValue(keySecret(n))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range certs {
		if err := db.Certs().Store(t.Context(), fmt.Sprintf("certificates/%d.key", n), fmt.Appendf(nil, "private %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return k
}

// rows is how many sealed rows there are.
func (k *keyed) rows() int64 { return int64(1 + len(k.keys) + k.certs) }

// intact opens everything with these keys.
func (k *keyed) intact(keys ...[]byte) {
	k.t.Helper()
	db := newDB(k.t, k.dsn, keys...)
	if err := db.Open(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	if !bytes.Equal(db.Pepper(), k.pepper) {
		k.t.Error("tokens are lost: another pepper")
	}
	record, err := db.LoadToken(k.t.Context(), k.token.ID)
	if err != nil || record.Token.Version != k.token.Version || record.Project.Version != int64(1+len(k.keys)) || len(record.Project.Credentials) != len(k.keys) {
		k.t.Fatalf("the token's record has changed: %v", err)
	}
	secrets := make(map[uuid.UUID]string)
	for _, c := range record.Project.Credentials {
		if c.Err != nil {
			k.t.Fatal(c.Err)
		}
		secrets[c.KeyID] = c.Secret.Reveal()
	}
	for n, key := range k.keys {
		if secrets[key.ID] != keySecret(n) {
			k.t.Fatalf("key %d is now %q", n, secrets[key.ID])
		}
	}
	for n := range k.certs {
		got, err := db.Certs().Load(k.t.Context(), fmt.Sprintf("certificates/%d.key", n))
		if err != nil || string(got) != fmt.Sprint("private ", n) {
			k.t.Fatalf("certificate %d: %q, %v", n, got, err)
		}
	}
}

// refused expects a start with these keys to name the key of testKey(missing).
func (k *keyed) refused(missing byte, keys ...[]byte) {
	k.t.Helper()
	id := testKeyring(k.t, testKey(missing)).KeyID()
	err := newDB(k.t, k.dsn, keys...).Open(k.t.Context())
	var want *MissingKeyError
	var unknown *secret.UnknownKeyError
	if !errors.As(err, &want) || !slices.Equal(want.KeyIDs, []string{id}) || !errors.As(err, &unknown) || errors.Is(err, ErrUnreachable) ||
		!strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), "encryption_key <current> <older>") {
		k.t.Errorf("a start without key %s: %v", id, err)
	}
}

func rotate(t *testing.T, db *DB) *RotateReport {
	t.Helper()
	report, err := db.Rotate(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// envelopes is a copy of all sealed rows.
func envelopes(t *testing.T, db *DB) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, place := range sealedPlaces {
		rows, err := db.conns.Load().reader.Query(`SELECT ` + place.columns[0] + `, sealed FROM ` + place.table)
		if err != nil {
			t.Fatal(err)
		}
		err = eachRow(rows, func() error {
			var id string
			var sealed []byte
			err := rows.Scan(&id, &sealed)
			all[place.table+" "+id] = string(sealed)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestRotate(t *testing.T) { onBoth(t, testRotate) }

func testRotate(t *testing.T, dsn string) {
	k := makeKeyed(t, dsn, 250, 20)
	k.refused(1, testKey(2))

	db := openDB(t, dsn, testKey(2), testKey(1))
	db.OnChange(func(c token.Change) { t.Errorf("announced %+v", c) })
	var last RotateProgress
	report, err := db.Rotate(t.Context(), func(p RotateProgress) {
		if p.Seen < last.Seen || p.Resealed < last.Resealed || p.Rows != k.rows() || p.Table == "" {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
	})
	want := RotateReport{KeyID: testKeyring(t, testKey(2)).KeyID(), Rows: k.rows(), Resealed: k.rows()}
	if err != nil || !report.Clean() || report.KeyID != want.KeyID || report.Rows != want.Rows || report.Resealed != want.Resealed {
		t.Fatalf("%+v, %v; want %+v", report, err, want)
	}
	if last.Seen != k.rows() || last.Resealed != k.rows() {
		t.Errorf("the last progress is %+v", last)
	}
	before := envelopes(t, db)
	if report := rotate(t, db); report.Resealed != 0 || !report.Clean() || report.Rows != k.rows() {
		t.Errorf("a second time: %+v", report)
	}
	for row, sealed := range envelopes(t, db) {
		if before[row] != sealed {
			t.Errorf("a second time changes %s", row)
		}
	}
	status, err := db.EncryptionStatus(t.Context())
	if err != nil || status.Older() != 0 || status.Lost() != 0 || status.Rows() != k.rows() || len(status.Uses) != len(sealedPlaces) {
		t.Errorf("status %+v, %v", status, err)
	}
	db.Close()

	k.intact(testKey(2))
	k.refused(2, testKey(1))
}

// TestRotateLeavesWhatDoesNotOpen has damaged rows, and rows of a key that is
// gone, among the others.
func TestRotateLeavesWhatDoesNotOpen(t *testing.T) { inTurn(t, testRotateLeavesWhatDoesNotOpen) }

func testRotateLeavesWhatDoesNotOpen(t *testing.T, dsn string) {
	k := makeKeyed(t, dsn, 8, 2)
	old, lost := testKeyring(t), testKeyring(t, testKey(9))
	place := func(n int) string { return keyPlace(k.project.ID, k.keys[n].ID) }
	damaged := old.Seal(place(1), []byte("x"))
	damaged[len(damaged)-1] ^= 1
	for n, sealed := range map[int][]byte{0: old.Seal(place(3), []byte("moved")), 1: damaged, 2: []byte(keySecret(2)), 4: old.Seal(place(4), nil)[:20], 5: {}} {
		mustExec(t, rawDB(t, dsn), `UPDATE provider_keys SET sealed = $1 WHERE id = $2`, sealed, k.keys[n].ID.String())
	}
	// Damaged rows harm only themselves.
	db := openDB(t, dsn, testKey(2), testKey(1))
	exec(t, db, `UPDATE provider_keys SET sealed = $1 WHERE id = $2`, lost.Seal(place(6), []byte("x")), k.keys[6].ID)
	before := envelopes(t, db)
	for range 2 {
		report := rotate(t, db)
		if report.Clean() || report.UnopenedRows != 6 || report.Older != 0 || len(report.Unopened) != 6 {
			t.Fatalf("%+v", report)
		}
		for i, row := range report.Unopened {
			n := []int{0, 1, 2, 4, 5, 6}[i]
			var unknown *secret.UnknownKeyError
			if row.Table != "provider_keys" || row.ID != k.keys[n].ID.String() || errors.As(row.Err, &unknown) != (n == 6) || errors.Is(row.Err, secret.ErrOpen) != (n != 6) {
				t.Errorf("row %d: %+v", n, row)
			}
			if strings.Contains(row.Err.Error(), "sk-") {
				t.Errorf("the error tells the secret: %v", row.Err)
			}
		}
	}
	after := envelopes(t, db)
	for n, key := range k.keys {
		row := "provider_keys " + key.ID.String()
		if kept := before[row] == after[row]; kept != (n != 3 && n != 7) {
			t.Errorf("row %d: kept is %v", n, kept)
		}
	}
	status, err := db.EncryptionStatus(t.Context())
	if err != nil || status.Older() != 2 || status.Lost() != 4 || !slices.Equal(status.Missing(), lost.KeyIDs()) {
		t.Errorf("status %+v, %v", status, err)
	}
	db.Close()

	k.refused(9, testKey(2), testKey(1))
	looking := configure(t, Config{DSN: dsn, Keyring: testKeyring(t, testKey(7)), AnyKeys: true, NoMigrate: true})
	if err := looking.Open(t.Context()); err != nil || looking.Pepper() != nil {
		t.Fatalf("opening to look: %v", err)
	}
	if status, err := looking.EncryptionStatus(t.Context()); err != nil || len(status.Missing()) != 3 {
		t.Errorf("status without any key: %+v, %v", status, err)
	}
	if report := rotate(t, looking); report.Resealed != 0 || report.UnopenedRows != k.rows() {
		t.Errorf("rotating without any key: %+v", report)
	}
}

// TestSealedPlaces finds every column of envelopes in the schema.
func TestSealedPlaces(t *testing.T) { onBoth(t, testSealedPlaces) }

func testSealedPlaces(t *testing.T, dsn string) {
	openDB(t, dsn).Close()
	query := `SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name LIKE '%sealed%'`
	if driverOf(dsn) == "postgres" {
		query = `SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() AND column_name LIKE '%sealed%'`
	}
	var found, want []string
	for _, place := range sealedPlaces {
		want = append(want, place.table+".sealed")
	}
	var rows *sql.Rows
	rows, err := rawDB(t, dsn).Query(query)
	if err == nil {
		err = eachRow(rows, func() error {
			var table, column string
			err := rows.Scan(&table, &column)
			found = append(found, table+"."+column)
			return err
		})
	}
	slices.Sort(found)
	slices.Sort(want)
	if err != nil || !slices.Equal(found, want) {
		t.Errorf("the schema has %v, sealedPlaces %v: %v", found, want, err)
	}
}

// TestUseKeys changes the keys of a database that is open.
func TestUseKeys(t *testing.T) { onBoth(t, testUseKeys) }

func testUseKeys(t *testing.T, dsn string) {
	k := makeKeyed(t, dsn, 3, 1)
	ring := testKeyring(t)
	db := configure(t, Config{DSN: dsn, Keyring: ring})
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var missing *MissingKeyError
	if err := db.UseKeys(t.Context(), testKeyring(t, testKey(2)), true); !errors.As(err, &missing) {
		t.Errorf("keys that do not open what is there: %v", err)
	}
	if report := rotate(t, db); report.Resealed != 0 || !report.Clean() {
		t.Errorf("refused keys are in use: %+v", report)
	}
	for _, step := range []struct {
		keys     [][]byte
		resealed int64
	}{{[][]byte{testKey(2), testKey(1)}, k.rows()}, {[][]byte{testKey(2)}, 0}, {[][]byte{testKey(3), testKey(2)}, k.rows()}} {
		if err := db.UseKeys(t.Context(), testKeyring(t, step.keys...), true); err != nil {
			t.Fatal(err)
		}
		if report := rotate(t, db); report.Resealed != step.resealed || !report.Clean() {
			t.Errorf("%+v, want %d", report, step.resealed)
		}
	}
	if ring.KeyID() != testKeyring(t).KeyID() {
		t.Error("the caller's keyring has changed")
	}
	db.Close()
	k.intact(testKey(3))

	both := &MissingKeyError{KeyIDs: []string{"aa", "bb"}, Uses: []KeyUse{{"secrets", "aa", 1}, {"provider_keys", "aa", 2}, {"cert_store", "bb", 3}, {"cert_store", "cc", 4}}}
	if got := both.Error(); !strings.Contains(got, "encryption keys aa (1 of secrets, 2 of provider_keys) and bb (3 of cert_store), which are not configured: add them") {
		t.Error(got)
	}
}
