package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// inspection is what a token tells without a database.
type inspection struct {
	ID         string     `json:"id,omitempty"`
	Form       string     `json:"form,omitempty"` // formLegacy, or absent
	IssuedAt   *time.Time `json:"issued_at,omitempty"`
	AgeSeconds int64      `json:"age_seconds,omitempty"`
	Checksum   string     `json:"checksum"` // valid, invalid or absent
	Reason     string     `json:"reason,omitempty"`
}

// formLegacy is the predecessor's form of a token.
const formLegacy = "legacy"

// Inspect shows what a token, or its id, tells by itself. The secret part is not
// shown again. A malformed token is an error, after what is known of it.
func Inspect(out Output, text string, now time.Time) error {
	in := inspect(strings.TrimSpace(text), now)
	if out.JSON {
		if err := out.value(in); err != nil {
			return err
		}
	} else {
		var age string
		if in.IssuedAt != nil {
			age = ageText(now.Sub(*in.IssuedAt))
		}
		var issued string
		if in.IssuedAt != nil {
			issued = in.IssuedAt.Format("2006-01-02T15:04:05.000Z07:00")
		}
		checksum := in.Checksum
		if checksum == "absent" {
			checksum = "absent: this is an id, not a token"
			if in.ID == "" {
				checksum = "absent: a mistyped one looks the same"
			}
		}
		form := in.Form
		if form == formLegacy {
			form = "legacy: the predecessor's, which works once it was imported, and does not tell when it was issued"
		}
		if err := out.details("id", in.ID, "form", form, "issued", issued, "age", age, "checksum", checksum); err != nil {
			return err
		}
	}
	if in.Reason != "" {
		return errors.New(in.Reason)
	}
	return nil
}

func inspect(text string, now time.Time) inspection {
	if id, err := uuid.FromString(text); err == nil && len(text) == 36 {
		in := inspection{Checksum: "absent"}
		return in.withID(id, now)
	}
	if parsed, err := token.Parse(text); err == nil {
		if parsed.Legacy() { // its id needs the pepper
			return inspection{Form: formLegacy, Checksum: "absent"}
		}
		in := inspection{Checksum: "valid"}
		return in.withID(parsed.ID, now)
	}
	return diagnose(text, now)
}

func (in inspection) withID(id uuid.UUID, now time.Time) inspection {
	in.ID = id.String()
	if id.Version() == uuid.V8 && id.Variant() == uuid.VariantRFC9562 {
		in.Form = formLegacy
		return in
	}
	if id.Version() != uuid.V7 || id.Variant() != uuid.VariantRFC9562 {
		in.Reason = "the id is not a UUIDv7: it does not tell when the token was issued"
		return in
	}
	issued := token.IssuedAt(id)
	in.IssuedAt, in.AgeSeconds = &issued, int64(now.Sub(issued)/time.Second)
	return in
}

// idEnd is where the id ends in a token's text.
const idEnd = len(token.Prefix) + 22

// diagnose tells why a text is no token, in the order in which a person would
// look for the mistake.
func diagnose(text string, now time.Time) inspection {
	in := inspection{Checksum: "invalid"}
	switch {
	case text == "":
		in.Reason = "there is no token to inspect: give one, or - for standard input"
		return in
	case !strings.HasPrefix(text, token.Prefix):
		in.Reason = fmt.Sprintf("not a token: it does not begin with %s", token.Prefix)
		if strings.HasPrefix(text, token.LegacyPrefix) && len(text) == token.LegacyLength {
			in.Reason = "not a token: it has the length of the predecessor's, but cannot be one, so it was mistyped"
		}
		return in
	}
	alphabet := strings.ContainsFunc(text[len(token.Prefix):], func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", r)
	})
	if len(text) >= idEnd {
		var id uuid.UUID
		if n, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(text[len(token.Prefix):idEnd])); err == nil && n == len(id) {
			in = in.withID(id, now)
		}
	}
	switch {
	case alphabet:
		in.Reason = "not a token: it holds characters that tokens do not have"
	case len(text) != token.Length:
		in.Reason = fmt.Sprintf("not a token: it has %d characters, expected %d; it was cut or something was added", len(text), token.Length)
	case in.Reason == "":
		in.Reason = "not a token: the checksum does not match, so it was mistyped or altered"
	}
	return in
}

// ageText rounds an age to what people want to know.
func ageText(age time.Duration) string {
	if age < 0 {
		return "issued " + ageText(-age) + " in the future: compare the clocks"
	}
	switch {
	case age >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", age/(24*time.Hour), age%(24*time.Hour)/time.Hour)
	case age >= time.Minute:
		return strings.TrimSuffix(age.Truncate(time.Minute).String(), "0s")
	}
	return age.Truncate(time.Second).String()
}

// ReadToken reads a token from the first line of standard input.
func ReadToken(stdin io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(stdin, maxSecret))
	if err != nil {
		return "", fmt.Errorf("reading standard input: %w", err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	return line, nil
}

// Keygen prints a new encryption key.
func Keygen(out Output) error {
	key := secret.NewKey()
	if out.JSON {
		return out.value(map[string]string{"encryption_key": key})
	}
	_, err := fmt.Fprintln(out.Out, key)
	return err
}
