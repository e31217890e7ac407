package storage

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// sealedFixture is a project with two keys and a token.
type sealedFixture struct {
	project   project.Project
	one, two  project.Key
	token     token.Token
	plaintext []string
}

func makeSealed(t testing.TB, db *DB, name string) *sealedFixture {
	t.Helper()
	f := &sealedFixture{project: project.Project{Name: name, Active: true}, plaintext: []string{"sk-one-" + name + "-0123456789", "sk-two-" + name + "-0123456789"}}
	err := db.Update(t.Context(), func(tx *Tx) error {
		if err := tx.CreateProject(t.Context(), &f.project); err != nil {
			return err
		}
		for i, k := range []*project.Key{&f.one, &f.two} {
			*k = project.Key{ProjectID: f.project.ID, Provider: "openai", Weight: 1, Priority: i, Active: true}
			if err := tx.CreateKey(t.Context(), k, secret.NewValue(f.plaintext[i])); err != nil {
				return err
			}
		}
		id, err := uuid.NewV7()
		f.token = token.Token{ID: id, ProjectID: f.project.ID, Active: true, Hash: make([]byte, token.HashSize), HashScheme: token.SchemeHMAC}
		return errors.Join(err, tx.CreateToken(t.Context(), &f.token))
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestTamperedKeys changes the first key's sealed bytes: that key alone becomes
// unusable, and no error tells the secret.
func TestTamperedKeys(t *testing.T) {
	sealed := func(t *testing.T, db *DB, k project.Key) (b []byte) {
		t.Helper()
		if err := db.conns.Load().writer.QueryRow(`SELECT sealed FROM provider_keys WHERE id = $1`, k.ID).Scan(&b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	tampers := map[string]func(t *testing.T, db *DB, f, other *sealedFixture) []byte{
		"OtherKey":     func(t *testing.T, db *DB, f, _ *sealedFixture) []byte { return sealed(t, db, f.two) },
		"OtherProject": func(t *testing.T, db *DB, _, other *sealedFixture) []byte { return sealed(t, db, other.one) },
		"Truncated": func(t *testing.T, db *DB, f, _ *sealedFixture) []byte {
			b := sealed(t, db, f.one)
			return b[:len(b)-1]
		},
		"HeaderOnly": func(t *testing.T, db *DB, f, _ *sealedFixture) []byte { return sealed(t, db, f.one)[:17] },
		"Empty":      func(*testing.T, *DB, *sealedFixture, *sealedFixture) []byte { return []byte{} },
		"BitFlipped": func(t *testing.T, db *DB, f, _ *sealedFixture) []byte {
			b := sealed(t, db, f.one)
			b[len(b)/2] ^= 1
			return b
		},
		"Plaintext": func(_ *testing.T, _ *DB, f, _ *sealedFixture) []byte { return []byte(f.plaintext[0]) },
		"UnknownKey": func(t *testing.T, _ *DB, f, _ *sealedFixture) []byte {
			return testKeyring(t, testKey(9)).Seal(keyPlace(f.project.ID, f.one.ID), []byte(f.plaintext[0]))
		},
		"OtherTable": func(t *testing.T, db *DB, f, _ *sealedFixture) []byte {
			return db.keyring.Seal(pepperPlace, []byte(f.plaintext[0]))
		},
	}
	onBoth(t, func(t *testing.T, dsn string) {
		db := openDB(t, dsn)
		for name, tamper := range tampers {
			t.Run(name, func(t *testing.T) {
				f, other := makeSealed(t, db, name), makeSealed(t, db, name+" beside")
				exec(t, db, `UPDATE provider_keys SET sealed = $1 WHERE id = $2`, tamper(t, db, f, other), f.one.ID)

				snapshot, err := db.LoadProject(t.Context(), f.project.ID)
				if err != nil {
					t.Fatal(err)
				}
				record, err := db.LoadToken(t.Context(), f.token.ID)
				if err != nil {
					t.Fatal(err)
				}
				for _, credentials := range [][]project.Credential{snapshot.Credentials, record.Project.Credentials} {
					if len(credentials) != 2 {
						t.Fatalf("%d credentials", len(credentials))
					}
					one, two := credentials[0], credentials[1]
					unknown := (*secret.UnknownKeyError)(nil)
					if !errors.Is(one.Err, secret.ErrOpen) && !errors.As(one.Err, &unknown) || !one.Secret.IsZero() {
						t.Fatalf("tampered key has error %v", one.Err)
					}
					if !strings.Contains(one.Err.Error(), f.one.ID.String()) || strings.Contains(one.Err.Error(), "sk-") {
						t.Errorf("error is %v", one.Err)
					}
					if two.Err != nil || two.Secret.Reveal() != f.plaintext[1] {
						t.Errorf("the other key has error %v", two.Err)
					}
				}
				if rest, err := db.LoadProject(t.Context(), other.project.ID); err != nil || rest.Credentials[0].Err != nil {
					t.Errorf("the other project: %v", err)
				}
			})
		}
	})
}

// TestPlaintextNowhere looks for secrets in the files.
func TestPlaintextNowhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llm-proxy.db")
	db := openDB(t, path)
	f := makeSealed(t, db, "a")
	pepper := bytes.Clone(db.Pepper())
	for _, suffix := range []string{"", "-wal"} {
		data := readFile(t, path+suffix)
		for _, s := range append(f.plaintext, string(pepper)) {
			if bytes.Contains(data, []byte(s)) {
				t.Errorf("a secret is in %q in clear", suffix)
			}
		}
	}
}

func TestPepper(t *testing.T) { onBoth(t, testPepper) }

func testPepper(t *testing.T, path string) {
	db := openDB(t, path)
	pepper := bytes.Clone(db.Pepper())
	if len(pepper) != token.PepperSize || bytes.Equal(pepper, make([]byte, token.PepperSize)) {
		t.Fatalf("pepper has %d bytes", len(pepper))
	}
	db.Close()

	rotated := openDB(t, path, testKey(2), testKey(1))
	if !bytes.Equal(rotated.Pepper(), pepper) {
		t.Error("another pepper after adding a key")
	}
	rotated.Close()

	err := newDB(t, path, testKey(2)).Open(t.Context())
	unknown := (*secret.UnknownKeyError)(nil)
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "encryption_key") || errors.Is(err, ErrUnreachable) {
		t.Errorf("opening with another key: %v", err)
	}

	for name, sealed := range map[string][]byte{
		"Plaintext": pepper,
		"Elsewhere": testKeyring(t).Seal("secrets.sealed|other", pepper),
		"Short":     testKeyring(t).Seal(pepperPlace, pepper[:16]),
	} {
		mustExec(t, rawDB(t, path), `UPDATE secrets SET sealed = $1 WHERE name = $2`, sealed, pepperName)
		err := newDB(t, path).Open(t.Context())
		if err == nil || !strings.Contains(err.Error(), "restore") || errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamagedPolicies breaks one row of each table: only that row is lost, and
// nothing of it is taken for an empty, unrestricted policy.
func TestDamagedPolicies(t *testing.T) { onBoth(t, testDamagedPolicies) }

func testDamagedPolicies(t *testing.T, dsn string) {
	db := openDB(t, dsn)
	for i, policy := range []string{"", "null,", "{", `{"allowed_models":"x"}`, `{"newer_limit":1}`, `{"Allowed_Models":["x"]}`,
		`{"allowed_models":["x"],"allowed_models":[]}`, `[]`, `{"rpm":"1"}`, `{"tpm":1.5}`, `{"MAX_REQUESTS":1}`, `{"budget_usd":-1}`, `{"budget_usd":"1 $"}`} {
		other, f := makeSealed(t, db, fmt.Sprint("other ", i)), makeSealed(t, db, fmt.Sprint("damaged ", i))
		var bad *damagedRowError
		exec(t, db, `UPDATE tokens SET policy = $1 WHERE id = $2`, policy, f.token.ID)
		for what, err := range map[string]error{"token": second(db.Token(t.Context(), f.token.ID)), "record": second(db.LoadToken(t.Context(), f.token.ID))} {
			if !errors.As(err, &bad) || bad.id != f.token.ID.String() || bad.table != "tokens" {
				t.Errorf("%s with policy %q: %v", what, policy, err)
			}
		}
		if _, err := db.LoadProject(t.Context(), f.project.ID); err != nil {
			t.Errorf("project of a damaged token: %v", err)
		}
		exec(t, db, `UPDATE projects SET policy = $1 WHERE id = $2`, policy, f.project.ID)
		exec(t, db, `UPDATE tokens SET policy = '{}' WHERE id = $1`, f.token.ID)
		for what, err := range map[string]error{
			"project":  second(db.Project(t.Context(), f.project.ID)),
			"snapshot": second(db.LoadProject(t.Context(), f.project.ID)),
			"record":   second(db.LoadToken(t.Context(), f.token.ID)),
		} {
			if !errors.As(err, &bad) || bad.id != f.project.ID.String() || bad.table != "projects" {
				t.Errorf("%s with policy %q: %v", what, policy, err)
			}
		}
		list, err := db.Projects(t.Context(), ProjectFilter{Limit: 1})
		if err != nil || len(list) != 1 || list[0].ID != other.project.ID {
			t.Errorf("list with policy %q: %v, %v", policy, list, err)
		}
		if _, err := db.LoadToken(t.Context(), other.token.ID); err != nil {
			t.Errorf("another token: %v", err)
		}

		// Writing the row anew mends it.
		err = db.Update(t.Context(), func(tx *Tx) error {
			if _, err := tx.Project(t.Context(), f.project.ID); !errors.As(err, &bad) {
				t.Errorf("project in a transaction: %v", err)
			}
			return tx.UpdateProject(t.Context(), &f.project)
		})
		if err != nil {
			t.Error(err)
		}
		if _, err := db.LoadToken(t.Context(), f.token.ID); err != nil {
			t.Errorf("mended: %v", err)
		}
	}
}

// TestDamagedRowsFillPages damages rows in the middle of a page: the page stays
// full, since a short one would end the caller's walk.
func TestDamagedRowsFillPages(t *testing.T) { onBoth(t, testDamagedRowsFillPages) }

func testDamagedRowsFillPages(t *testing.T, dsn string) {
	db := openDB(t, dsn)
	var names []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		f := makeSealed(t, db, name)
		if name == "b" || name == "d" || name == "e" {
			exec(t, db, `UPDATE projects SET policy = 'x' WHERE id = $1`, f.project.ID)
		}
	}
	filter := ProjectFilter{Limit: 1}
	for {
		page, err := db.Projects(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page {
			names = append(names, p.Name)
			filter.After = Cursor{p.CreatedAt, p.ID}
		}
		if len(page) < filter.Limit {
			break
		}
	}
	if strings.Join(names, "") != "ca" {
		t.Errorf("walked %v", names)
	}
}

func second[T any](_ T, err error) error { return err }
