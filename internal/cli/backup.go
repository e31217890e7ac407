package cli

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// Backup writes the database into a new file.
func Backup(ctx context.Context, out Output, d Database, file string) error {
	s, err := readSchema(ctx, d)
	if err == nil {
		err = s.problem()
	}
	if err != nil {
		return err
	}
	ring, err := anyKeyring()
	if err != nil {
		return err
	}
	db, err := storage.New(storage.Config{Driver: d.Driver, DSN: d.DSN, Keyring: ring, NoMigrate: true, AnyKeys: true})
	if err != nil {
		return err
	}
	if err := db.Open(ctx); err != nil {
		return errors.Join(err, db.Close())
	}
	report, err := db.Backup(ctx, file, storage.CopyOptions{Progress: out.copyProgress()})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := out.copied(copyView{From: d.String(), To: absolute(file)}, report); err != nil {
		return err
	}
	out.Notice("secrets in it are sealed: keep the encryption key too, in another place")
	return nil
}

// Restore puts a backup in place of what the database holds, which needs consent
// when there is anything.
func Restore(ctx context.Context, out Output, e Encryption, file string, consent bool) error {
	ring, err := e.Keyring()
	if err != nil {
		return err
	}
	report, err := storage.Restore(ctx, storage.Config{Driver: e.Driver, DSN: e.DSN, Keyring: ring}, file,
		storage.CopyOptions{Replace: consent, Progress: out.copyProgress()})
	if errors.Is(err, storage.ErrHoldsData) {
		return Usagef("%v, which the backup would replace: make a backup of it, and say --yes", err)
	}
	if err != nil {
		return err
	}
	return out.copied(copyView{From: absolute(file), To: e.Database.String()}, report)
}

func absolute(file string) string {
	if path, err := filepath.Abs(file); err == nil {
		return path
	}
	return file
}
