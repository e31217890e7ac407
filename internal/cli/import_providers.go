package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/predecessor"
)

// DefaultImportProvider is the one that the predecessor's keys are for, unless its
// api_providers.yaml says otherwise.
const DefaultImportProvider = "openai"

// ReadPredecessorDSN takes a path or a DSN, or the content of @FILE: a DSN holds a
// password, which other users of the machine would see.
func ReadPredecessorDSN(spec string) (string, error) {
	path, isFile := strings.CutPrefix(spec, "@")
	if !isFile {
		return spec, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("--database: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return "", fmt.Errorf("--database: %w", err)
	}
	if spec = strings.TrimSpace(string(data)); spec == "" {
		return "", Usagef("--database: the file %s is empty", path)
	}
	return spec, nil
}

// ConvertProviders reads an api_providers.yaml, and writes it as provider blocks of a
// Caddyfile. It also tells the default provider.
func ConvertProviders(out Output, path string) (caddyfile, provider string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", fmt.Errorf("--providers: %w", err)
	}
	defer f.Close()
	providers, err := predecessor.ReadProviders(f)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	caddyfile, notes, err := providers.Caddyfile()
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	for _, note := range notes {
		out.Notice("%s: %s", path, note)
	}
	if provider = providers.Default; provider == "" {
		provider = DefaultImportProvider
	}
	return caddyfile, provider, nil
}

// ShowCaddyfile writes a Caddyfile, unless it is in a file already and so empty.
func ShowCaddyfile(out Output, text string) error {
	if out.JSON {
		return out.value(map[string]string{"caddyfile": text})
	}
	_, err := io.WriteString(out.Out, text)
	return err
}

// KeepCaddyfile writes a Caddyfile to a new file. One that is there with the same
// content will do.
func KeepCaddyfile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		there, readErr := os.ReadFile(path)
		if readErr == nil && bytes.Equal(there, []byte(text)) {
			return nil
		}
		return fmt.Errorf("--providers-out: %s exists with another content: remove it, or choose another name", path)
	}
	if err != nil {
		return fmt.Errorf("--providers-out: %w", err)
	}
	_, err = io.WriteString(f, text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("--providers-out: %w", err)
	}
	return nil
}
