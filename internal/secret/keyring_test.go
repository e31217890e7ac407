package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// key makes an encryption key that is told from others by n.
func key(n uint32) []byte {
	k := make([]byte, secret.KeySize)
	binary.BigEndian.PutUint32(k[secret.KeySize-4:], n)
	return k
}

func ring(t testing.TB, keys ...[]byte) *secret.Keyring {
	t.Helper()
	k, err := secret.NewKeyring(keys...)
	if err != nil {
		t.Fatalf("NewKeyring: %v", err)
	}
	return k
}

func TestSealAndOpen(t *testing.T) {
	k := ring(t, key(1))
	rapid.Check(t, func(t *rapid.T) {
		aad := rapid.String().Draw(t, "aad")
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		envelope := k.Seal(aad, plain)
		got, err := k.Open(aad, envelope)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("Open = %x, %v; want %x", got, err, plain)
		}
		if len(plain) > 4 && bytes.Contains(envelope, plain) {
			t.Fatal("the envelope holds the plaintext")
		}
		if bytes.Equal(envelope, k.Seal(aad, plain)) {
			t.Fatal("sealing twice gave the same envelope: the nonce is not random")
		}
		if secret.EnvelopeKeyID(envelope) != k.KeyID() {
			t.Fatalf("key id %s, want %s", secret.EnvelopeKeyID(envelope), k.KeyID())
		}
	})
}

func TestOpenForAnotherPlace(t *testing.T) {
	k := ring(t, key(1))
	envelope := k.Seal("provider_keys.secret:1", []byte(text))
	for _, aad := range []string{"", "provider_keys.secret:2", "provider_keys.secret:1 ", "tokens.secret:1", "provider_keys.secret:11", "provider_keys.secret:"} {
		if got, err := k.Open(aad, envelope); !errors.Is(err, secret.ErrOpen) || got != nil {
			t.Errorf("Open(%q) = %q, %v; want ErrOpen", aad, got, err)
		}
	}
}

func TestOpenTruncatedExtendedOrAltered(t *testing.T) {
	k := ring(t, key(1))
	envelope := k.Seal("place", []byte(text))
	refused := func(what string, altered []byte) {
		t.Helper()
		got, err := k.Open("place", altered)
		var unknown *secret.UnknownKeyError
		if got != nil || !errors.Is(err, secret.ErrOpen) && !errors.As(err, &unknown) {
			t.Errorf("%s: Open = %q, %v", what, got, err)
		}
		if err != nil && leaks(err.Error()) {
			t.Errorf("%s: the error holds the secret: %v", what, err)
		}
	}
	for n := range envelope {
		refused(fmt.Sprintf("first %d bytes", n), envelope[:n])
		refused(fmt.Sprintf("last %d bytes", n), envelope[len(envelope)-n:])
		for bit := range 8 {
			altered := bytes.Clone(envelope)
			altered[n] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d", bit, n), altered)
		}
	}
	refused("a byte appended", append(bytes.Clone(envelope), 0))
	refused("two joined", append(bytes.Clone(envelope), envelope...))
	refused("nothing", nil)
	refused("plaintext", []byte(text))
	refused("a long plaintext that begins like an envelope", append([]byte{1}, []byte(strings.Repeat(text, 9))...))
}

func TestSwappedParts(t *testing.T) {
	k := ring(t, key(1))
	a, b := k.Seal("place", []byte("aaaaaaaa")), k.Seal("place", []byte("bbbbbbbb"))
	const header = 1 + 4 + 12
	if _, err := k.Open("place", append(bytes.Clone(a[:header]), b[header:]...)); !errors.Is(err, secret.ErrOpen) {
		t.Errorf("the header of one and the body of another: %v", err)
	}
}

func TestUnknownKey(t *testing.T) {
	envelope := ring(t, key(1)).Seal("place", []byte(text))
	_, err := ring(t, key(2), key(3)).Open("place", envelope)
	var unknown *secret.UnknownKeyError
	if !errors.As(err, &unknown) || unknown.KeyID != ring(t, key(1)).KeyID() || !strings.Contains(err.Error(), unknown.KeyID) {
		t.Fatalf("Open = %v, want UnknownKeyError with the key's id", err)
	}
	if errors.Is(err, secret.ErrOpen) {
		t.Error("a missing key is told as an altered value")
	}
}

func TestRotation(t *testing.T) {
	old := ring(t, key(1))
	sealed := old.Seal("place", []byte(text))
	both := ring(t, key(2), key(1))
	if got, err := both.Open("place", sealed); err != nil || string(got) != text {
		t.Fatalf("the old key does not open any more: %v", err)
	}
	resealed := both.Seal("place", []byte(text))
	if id := secret.EnvelopeKeyID(resealed); id != ring(t, key(2)).KeyID() || id != both.KeyID() {
		t.Errorf("sealed under %s, want the new key", id)
	}
	if got, err := ring(t, key(2)).Open("place", resealed); err != nil || string(got) != text {
		t.Errorf("the new key alone does not open: %v", err)
	}
	if _, err := old.Open("place", resealed); err == nil {
		t.Error("the old key opens what the new one sealed")
	}
}

// Ids are four bytes: keys 69542 and 90808 share one.
func TestKeysThatShareAnID(t *testing.T) {
	a, b := ring(t, key(69542)), ring(t, key(90808))
	if a.KeyID() != b.KeyID() {
		t.Fatalf("ids %s and %s: these keys were to collide", a.KeyID(), b.KeyID())
	}
	both := ring(t, key(69542), key(90808))
	for name, k := range map[string]*secret.Keyring{"first": a, "second": b} {
		if got, err := both.Open("place", k.Seal("place", []byte(text))); err != nil || string(got) != text {
			t.Errorf("sealed under the %s: %v", name, err)
		}
	}
	if _, err := b.Open("place", a.Seal("place", []byte(text))); !errors.Is(err, secret.ErrOpen) {
		t.Errorf("the wrong key of that id: %v, want ErrOpen", err)
	}
}

func TestFingerprint(t *testing.T) {
	one, two, swapped := ring(t, key(1)), ring(t, key(1), key(2)), ring(t, key(2), key(1))
	if one.Fingerprint() != ring(t, key(1)).Fingerprint() || one.Fingerprint() == two.Fingerprint() || two.Fingerprint() == swapped.Fingerprint() {
		t.Errorf("fingerprints %s, %s, %s", one.Fingerprint(), two.Fingerprint(), swapped.Fingerprint())
	}
}

func TestNewKeyring(t *testing.T) {
	for _, tc := range []struct {
		name string
		keys [][]byte
		want string
	}{
		{"none", nil, "no encryption key given"},
		{"short", [][]byte{make([]byte, 31)}, "encryption key 1 has 31 bytes, expected 32"},
		{"AES-128", [][]byte{key(1), make([]byte, 16)}, "encryption key 2 has 16 bytes, expected 32"},
		{"long", [][]byte{make([]byte, 33)}, "encryption key 1 has 33 bytes"},
		{"empty", [][]byte{{}}, "encryption key 1 has 0 bytes"},
	} {
		if k, err := secret.NewKeyring(tc.keys...); k != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestParseKey(t *testing.T) {
	raw := bytes.Repeat([]byte{0xfb, 0xef, 0xff}, 11)[:secret.KeySize] // has + and / in base64
	for name, enc := range map[string]*base64.Encoding{
		"standard": base64.StdEncoding, "standard, no padding": base64.RawStdEncoding, "URL": base64.URLEncoding, "URL, no padding": base64.RawURLEncoding,
	} {
		written := enc.EncodeToString(raw)
		for _, form := range []string{written, written + "\n", written + "\r\n"} {
			if got, err := secret.ParseKey(form); err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%s: %x, %v", name, got, err)
			}
		}
	}
	if a, b := secret.NewKey(), secret.NewKey(); a == b {
		t.Error("NewKey gave the same key twice")
	} else if _, err := secret.ParseKey(a); err != nil {
		t.Errorf("NewKey's form does not parse: %v", err)
	}
}

func TestParseKeyErrorsNeverHoldTheText(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", "32 bytes"},
		{"hunter2hunter2hunter2hunter2hunter2hunter2hunter", "decodes to 36 bytes"},
		{"hunter2", "is not base64 of 32 bytes"},
		{"hunter2!hunter2!hunter2!hunter2!hunter2!hu!", "is not base64"},
		{strings.Repeat("hunter2h", 8), "decodes to 48 bytes"}, // as long as hex
		{base64.StdEncoding.EncodeToString(make([]byte, 31)), "decodes to 31 bytes"},
		{base64.StdEncoding.EncodeToString(make([]byte, 33)), "decodes to 33 bytes"},
		{strings.Repeat("A", 42) + "B=", "is not base64"}, // unused bits are set
		{"{env.HUNTER2}", "is not base64"},
		{strings.Repeat("A", 43) + "= " + strings.Repeat("A", 43) + "=", "is not base64"}, // two keys
	} {
		k, err := secret.ParseKey(tc.text)
		if k != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.text, err, tc.want)
			continue
		}
		if len(tc.text) > 4 && strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tc.text[:5])) {
			t.Errorf("the error holds the text: %v", err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, other := ring(f, key(1), key(2)), ring(f, key(3))
	f.Add("place", k.Seal("place", []byte(text)))
	f.Add("place", k.Seal("elsewhere", []byte(text)))
	f.Add("place", other.Seal("place", []byte(text)))
	f.Add("", []byte{})
	f.Add("place", []byte{1})
	f.Fuzz(func(t *testing.T, aad string, envelope []byte) {
		plain, err := k.Open(aad, envelope)
		var unknown *secret.UnknownKeyError
		switch {
		case err == nil:
			// Only a seed opens: nothing else can be made without the key.
			if string(plain) != text || aad != "place" {
				t.Fatalf("forged: %q opens to %q at %q", envelope, plain, aad)
			}
		case plain != nil || !errors.Is(err, secret.ErrOpen) && !errors.As(err, &unknown):
			t.Fatalf("Open = %q, %v", plain, err)
		}
		if id := secret.EnvelopeKeyID(envelope); id != "" && len(id) != 8 {
			t.Fatalf("key id %q", id)
		}
	})
}
