package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func TestEncrypt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "llm-proxy.db")
	var out, notices buffer
	o := Output{Out: &out, Err: &notices}
	ring := func(fill ...byte) func() (*secret.Keyring, error) {
		return func() (*secret.Keyring, error) {
			var keys [][]byte
			for _, b := range fill {
				keys = append(keys, bytes.Repeat([]byte{b}, secret.KeySize))
			}
			return secret.NewKeyring(keys...)
		}
	}
	with := func(fill ...byte) Encryption {
		return Encryption{Database{Driver: "sqlite", DSN: path}, ring(fill...)}
	}
	id := func(b byte) string {
		k, err := ring(b)()
		if err != nil {
			t.Fatal(err)
		}
		return k.KeyID()
	}

	unasked := Encryption{Database{Driver: "sqlite", DSN: path}, func() (*secret.Keyring, error) {
		t.Error("a key was asked for, and perhaps made, without a database")
		return nil, errors.New("none")
	}}
	for _, run := range []func() error{
		func() error { return EncryptStatus(t.Context(), o, unasked) },
		func() error { return EncryptRotate(t.Context(), o, unasked) },
	} {
		expectError(t, run(), false, "does not exist")
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("looking made the database")
	}

	db := openStore(t, path) // under key 7, and in use all the time
	p := &project.Project{Name: "p", Active: true}
	k := &project.Key{Provider: "openai", Weight: 1, Active: true}
	err := db.Update(t.Context(), func(tx *storage.Tx) error {
		if err := tx.CreateProject(t.Context(), p); err != nil {
			return err
		}
		k.ProjectID = p.ID
		return tx.CreateKey(t.Context(), k, secret.NewValue(testProviderKey))
	})
	if err != nil {
		t.Fatal(err)
	}

	if err := EncryptStatus(t.Context(), o, with(8, 7)); err != nil {
		t.Fatal(err)
	}
	expectText(t, out.take(), "KEY", id(8)+"  current  0     -", id(7)+"  older    2     1 of provider_keys, 1 of secrets")
	expectError(t, EncryptStatus(t.Context(), o, with(8)), false, "2 rows are sealed under a key that is not configured", id(7))
	expectText(t, out.take(), id(7)+"  missing  2")

	expectError(t, EncryptRotate(t.Context(), o, with(8)), false, "2 rows do not open")
	expectText(t, out.take(), "re-sealed 0 of 2 rows under key "+id(8))
	expectText(t, notices.take(), "left alone: secrets token_pepper", "left alone: provider_keys "+k.ID.String(), id(7))

	if err := EncryptRotate(t.Context(), o, with(8, 7)); err != nil {
		t.Fatal(err)
	}
	expectText(t, out.take(), "re-sealed 2 of 2 rows under key "+id(8))
	o.JSON = true
	if err := EncryptRotate(t.Context(), o, with(8)); err != nil {
		t.Fatal(err)
	}
	var report struct {
		KeyID    string `json:"key_id"`
		Rows     int
		Resealed int
		Unopened []unopenedView
	}
	if err := json.Unmarshal([]byte(out.take()), &report); err != nil || report.KeyID != id(8) || report.Rows != 2 || report.Resealed != 0 || report.Unopened == nil {
		t.Errorf("%+v, %v", report, err)
	}
	if err := EncryptStatus(t.Context(), o, with(8)); err != nil {
		t.Fatal(err)
	}
	var status struct{ Keys []encryptionKeyView }
	if err := json.Unmarshal([]byte(out.take()), &status); err != nil || len(status.Keys) != 1 || status.Keys[0].State != keyCurrent || status.Keys[0].Rows != 2 || status.Keys[0].Tables["secrets"] != 1 {
		t.Errorf("%+v, %v", status, err)
	}
}
