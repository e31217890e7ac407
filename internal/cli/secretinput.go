package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// maxSecret bounds what is read for one secret: a wrong file is not read in whole.
const maxSecret = 64 << 10

// ReadSecret takes a secret as a flag gives it: the text itself, @FILE, or - for
// standard input. Other users of the machine see the text itself in the list of
// processes.
func ReadSecret(flag, spec string, stdin io.Reader) (secret.Value, error) {
	var text string
	switch path, isFile := strings.CutPrefix(spec, "@"); {
	case spec == "-":
		data, err := io.ReadAll(io.LimitReader(stdin, maxSecret))
		if err != nil {
			return secret.Value{}, fmt.Errorf("%s: reading standard input: %w", flag, err)
		}
		text = string(data)
	case isFile:
		value, err := readSecretFile(path)
		if err != nil {
			return secret.Value{}, fmt.Errorf("%s: %w", flag, err)
		}
		return value, nil
	default:
		text = spec
	}
	return checkSecret(flag, text)
}

// SecretFromEnv takes a secret from an environment variable.
func SecretFromEnv(flag, name string) (secret.Value, error) {
	text, ok := os.LookupEnv(name)
	if !ok {
		return secret.Value{}, Usagef("%s: the environment variable is not set", flag)
	}
	return checkSecret(flag, text)
}

// checkSecret refuses what no header could carry, before net/http does in words
// of its own.
func checkSecret(from, text string) (secret.Value, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return secret.Value{}, Usagef("%s: the secret is empty", from)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return secret.Value{}, Usagef("%s: the secret holds spaces, line breaks or characters beyond ASCII", from)
	}
	return secret.NewValue(text), nil
}

func readSecretFile(path string) (secret.Value, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Value{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return secret.Value{}, err
	}
	return checkSecret(path, string(data))
}

// ManagementToken is the management token of an installation: the one given,
// else the first of the files that exists.
func ManagementToken(given secret.Value, files ...string) (secret.Value, error) {
	if !given.IsZero() {
		return given, nil
	}
	for _, path := range files {
		value, err := readSecretFile(path)
		switch {
		case err == nil:
			return value, nil
		case !errors.Is(err, fs.ErrNotExist):
			return secret.Value{}, fmt.Errorf("reading the management token: %w", err)
		}
	}
	return secret.Value{}, errors.New("no management token: set MANAGEMENT_TOKEN, give --management-token @FILE, or run this where data/management-token is")
}
