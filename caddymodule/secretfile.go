package caddymodule

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// Files beside a SQLite database.
const (
	encryptionKeyName   = "encryption-key"
	managementTokenName = "management-token"
)

// encryptionKeyFile reads the key beside a database, or makes it together with
// the database. A database without its key is not given a new one: that could not
// open what is in it.
func encryptionKeyFile(dir, database string, logger *slog.Logger) ([]byte, error) {
	path := filepath.Join(dir, encryptionKeyName)
	text, err := readSecretFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(database); err == nil {
			return nil, fmt.Errorf("%s exists, but its encryption key %s does not: put the file back, or set encryption_key", database, path)
		}
		if text, err = createSecretFile(path, secret.NewKey()); err == nil {
			logger.Warn("made an encryption key for the database: keep a copy of it, without it provider keys are lost", "file", path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	key, err := secret.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("encryption key in %s: %w", path, err)
	}
	return key, nil
}

// managementTokenFile reads the management token beside a database, or makes
// one and shows it to whoever starts the process, this once.
func managementTokenFile(dir string) (secret.Value, error) {
	path := filepath.Join(dir, managementTokenName)
	text, err := readSecretFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		made := "mt-" + rand.Text()
		if text, err = createSecretFile(path, made); err == nil && text == made {
			// To the terminal, not to the log: logs are kept and shipped.
			fmt.Fprintf(os.Stderr, "\nManagement token (kept in %s): %s\n\n", path, text)
		}
	}
	if err != nil {
		return secret.Value{}, err
	}
	if text == "" {
		return secret.Value{}, fmt.Errorf("%s is empty: remove it to have a new one made, or set management_token", path)
	}
	return secret.NewValue(text), nil
}

func readSecretFile(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}

// createSecretFile makes a file of mode 0600 in one step, or, when another
// process was quicker, reads the one that it made.
func createSecretFile(path, text string) (string, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(dir, ".secret-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return readSecretFile(path)
}
