package token_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// goldenLegacy and what belongs to it under goldenPepper were computed by other
// means: rows that were imported outlive releases.
const (
	goldenLegacy     = "sk-AZRu8SoAeryN7wEjRWeJqw"
	goldenLegacySum  = "a2d4bed44262592dcb1b89fba1966fe9b925c6315c4fb8bbc1afc068b759fcf4"
	goldenLegacyID   = "f7e00689-b6d8-88b3-b739-3d72f25defc4"
	goldenLegacyHash = "510c8c5b1940b456e687e53c658112a3ee98c7050478a67e70ecb70c9d8868a4"
)

// legacyText is the text of a legacy token, a different one for each n.
func legacyText(n byte) string {
	return "sk-" + base64.RawURLEncoding.EncodeToString(append(make([]byte, 15), n))
}

// legacySum is what the predecessor keeps of a token when it encrypts.
func legacySum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestGoldenLegacyToken(t *testing.T) {
	for name, parse := range map[string]func() (token.Secret, error){
		"sent":          func() (token.Secret, error) { return token.Parse(goldenLegacy) },
		"stored":        func() (token.Secret, error) { return token.ParseLegacy(goldenLegacy) },
		"stored hashed": func() (token.Secret, error) { return token.ParseLegacy(goldenLegacySum) },
	} {
		s, err := parse()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !s.Legacy() || !s.ID.IsNil() || !s.IssuedAt().IsZero() || s.Scheme() != token.SchemeLegacy {
			t.Errorf("%s: legacy %v, id %s, issued %s, scheme %s", name, s.Legacy(), s.ID, s.IssuedAt(), s.Scheme())
		}
		if id := s.RowID(goldenPepper); id.String() != goldenLegacyID || id.Version() != uuid.V8 || id.Variant() != uuid.VariantRFC9562 {
			t.Errorf("%s: row %s, want %s", name, id, goldenLegacyID)
		}
		if sum := s.Hash(goldenPepper); hex.EncodeToString(sum[:]) != goldenLegacyHash {
			t.Errorf("%s: hash %x, want %s", name, sum, goldenLegacyHash)
		}
	}
}

func TestLegacyTextsThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"one character less": goldenLegacy[:24],
		"one more":           goldenLegacy + "A",
		"another prefix":     "sK-" + goldenLegacy[3:],
		"no prefix":          "AAA" + goldenLegacy[3:],
		"a cut token":        golden[:token.LegacyLength],
		"unused bits set":    setUnusedBits(goldenLegacy),
		"padding":            goldenLegacy[:24] + "=",
		"standard base64":    goldenLegacy[:10] + "+" + goldenLegacy[11:],
		"a line feed":        goldenLegacy[:10] + "\n" + goldenLegacy[11:],
		"NUL":                goldenLegacy[:10] + "\x00" + goldenLegacy[11:],
		"its hash":           goldenLegacySum,
		"a key of OpenAI's":  "sk-" + strings.Repeat("A", 48),
		"a space behind":     goldenLegacy + " ",
	} {
		if s, err := token.Parse(text); !errors.Is(err, token.ErrMalformed) || s != (token.Secret{}) {
			t.Errorf("%s: Parse = %v, %v; want nothing and ErrMalformed", name, s, err)
		}
	}
	for name, stored := range map[string]string{
		"upper-case hex": strings.ToUpper(goldenLegacySum),
		"half a hash":    goldenLegacySum[:32],
		"not hex":        strings.Repeat("x", 64),
		"bcrypt":         "hash:v1:$2a$10$abcdefghijklmnopqrstuv",
		"empty":          "",
		"a newer token":  golden,
	} {
		if s, err := token.ParseLegacy(stored); !errors.Is(err, token.ErrMalformed) || s != (token.Secret{}) {
			t.Errorf("%s: ParseLegacy = %v, %v; want nothing and ErrMalformed", name, s, err)
		}
	}
}

func TestLegacyMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")
		raw[0] &= 0x7f // less than half-way to the year 8700
		text := "sk-" + base64.RawURLEncoding.EncodeToString(raw)
		sent, err := token.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := token.ParseLegacy(legacySum(text))
		if err != nil || stored != sent {
			t.Fatalf("stored %v, sent %v: %v", stored, sent, err)
		}
		pepper, other := bytes.Repeat([]byte{1}, token.PepperSize), bytes.Repeat([]byte{2}, token.PepperSize)
		hash, id := stored.Hash(pepper), stored.RowID(pepper)
		if !sent.Matches(token.SchemeLegacy, hash[:], pepper) {
			t.Fatal("its own hash does not match")
		}
		if sent.Matches(token.SchemeHMAC, hash[:], pepper) || sent.Matches("", hash[:], pepper) || sent.Matches(token.SchemeLegacy, hash[:], other) || sent.Matches(token.SchemeLegacy, hash[:31], pepper) {
			t.Fatal("matches under another scheme, pepper or length")
		}
		// The id is public: nothing of the hash or of the text may be in it.
		if id == sent.RowID(other) || bytes.HasPrefix(hash[:], id[:6]) || bytes.Contains(id[:], raw[:6]) {
			t.Fatalf("id %s tells of the token or does not depend on the pepper", id)
		}
	})
}

// A row of one form is no use to a token of the other, whatever its hash is.
func TestFormsDoNotMix(t *testing.T) {
	_, current := mint(t, time.Now())
	legacy, err := token.Parse(goldenLegacy)
	if err != nil {
		t.Fatal(err)
	}
	a, b := current.Hash(goldenPepper), legacy.Hash(goldenPepper)
	if current.Matches(token.SchemeLegacy, a[:], goldenPepper) || legacy.Matches(token.SchemeHMAC, b[:], goldenPepper) {
		t.Error("a token matches under the scheme of the other form")
	}
	if current.Legacy() || current.Scheme() != token.SchemeHMAC || current.RowID(goldenPepper) != current.ID {
		t.Errorf("legacy %v, scheme %s, row %s of %s", current.Legacy(), current.Scheme(), current.RowID(goldenPepper), current.ID)
	}
}

func TestLegacyNeverPrintsItself(t *testing.T) {
	s, err := token.Parse(goldenLegacy)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(goldenLegacy))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{s, &s, []token.Secret{s}, struct{ S token.Secret }{s}} {
			out := fmt.Sprintf(verb, value)
			for _, leak := range []string{goldenLegacy[3:], goldenLegacySum[:8], fmt.Sprint(sum[0]) + " " + fmt.Sprint(sum[1]), "0xa2, 0xd4"} {
				if strings.Contains(out, leak) {
					t.Errorf("%s of %T prints the secret: %s", verb, value, out)
				}
			}
		}
	}
	if out, err := json.Marshal(s); err != nil || strings.Contains(string(out), goldenLegacy) || !strings.Contains(string(out), uuid.Nil.String()) {
		t.Errorf("JSON = %s, %v", out, err)
	}
}

func TestAuthenticateLegacy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		project := s.addProject()
		plain := s.addLegacy(t, project, goldenLegacy)
		hashed := legacyText(1)
		s.addLegacy(t, project, legacySum(hashed))
		a := newAuthority(t, s, token.Options{})

		for i, text := range []string{plain, hashed} {
			id := wantAuth(t, a, text, nil)
			wantAuth(t, a, text, nil)
			wantQueries(t, s, int64(i+1)) // one for the first, none for the second
			if row, err := a.RowID(text); err != nil || row != id.Token.ID {
				t.Errorf("RowID = %s, %v; want %s", row, err, id.Token.ID)
			}
		}

		// What the database holds is not what a client may send.
		wantAuth(t, a, legacySum(hashed), token.ErrMalformed)
		wantQueries(t, s, 2)

		// An unknown one is remembered as such, for as long as any.
		for range 3 {
			wantAuth(t, a, legacyText(2), token.ErrUnknown)
		}
		wantQueries(t, s, 3)
		s.addLegacy(t, project, legacyText(2))
		time.Sleep(5 * time.Second)
		row := wantAuth(t, a, legacyText(2), nil).Token.ID
		wantQueries(t, s, 4)

		a.Changed(s.change(row, revoke))
		wantAuth(t, a, legacyText(2), token.ErrInactive)

		a.Changed(s.changeProject(project, deactivate))
		wantAuth(t, a, plain, token.ErrProjectInactive)
	})
}

// A row whose hash is another's accepts nobody.
func TestAuthenticateLegacyWithAWrongHash(t *testing.T) {
	s := newSource()
	s.addLegacy(t, s.addProject(), goldenLegacy)
	secret, _ := token.Parse(goldenLegacy)
	row := secret.RowID(testPepper)
	for name, damage := range map[string]func(*token.Token){
		"hash": func(tok *token.Token) { tok.Hash = make([]byte, token.HashSize) },
		"scheme": func(tok *token.Token) {
			hash := secret.Hash(testPepper)
			tok.Hash, tok.HashScheme = hash[:], token.SchemeHMAC
		},
	} {
		s.change(row, damage)
		a := newAuthority(t, s, token.Options{})
		if _, err := a.Authenticate(t.Context(), goldenLegacy); !errors.Is(err, token.ErrUnknown) {
			t.Errorf("%s: %v, want ErrUnknown", name, err)
		}
	}
}

// Before the database is open there is no pepper, and no legacy token is unknown.
func TestAuthenticateLegacyWithoutPepper(t *testing.T) {
	s := newSource()
	text := s.addLegacy(t, s.addProject(), goldenLegacy)
	a := newAuthority(t, s, token.Options{})
	none := []byte(nil)
	s.pepper.Store(&none)
	wantAuth(t, a, text, token.ErrUnavailable)
	if _, err := a.RowID(text); !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("RowID: %v", err)
	}
	wantQueries(t, s, 0)
	s.pepper.Store(nil)
	wantAuth(t, a, text, nil)
}

// The pepper is that of the moment: a restore brings another one.
func TestAnotherPepper(t *testing.T) {
	s := newSource()
	project := s.addProject()
	a := newAuthority(t, s, token.Options{})
	for n := byte(1); n < 4; n++ {
		pepper := bytes.Repeat([]byte{n}, token.PepperSize)
		s.pepper.Store(&pepper)
		text, _ := s.addToken(t, project)
		wantAuth(t, a, text, nil)
		wantAuth(t, a, s.addLegacy(t, project, legacyText(n)), nil)
	}
	wantAuth(t, a, legacyText(1), token.ErrUnknown)
}
