package secret_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

func TestReseal(t *testing.T) {
	// The last two share an id.
	for _, old := range [][]byte{key(1), key(90808)} {
		for _, current := range [][]byte{key(2), key(69542)} {
			both, alone := ring(t, current, old), ring(t, current)
			envelope := ring(t, old).Seal("place", []byte(text))
			resealed, err := both.Reseal("place", envelope)
			if err != nil || secret.EnvelopeKeyID(resealed) != both.KeyID() {
				t.Fatalf("Reseal: %v", err)
			}
			if got, err := alone.Open("place", resealed); err != nil || string(got) != text {
				t.Errorf("the first key alone: %v", err)
			}
			if again, err := both.Reseal("place", resealed); again != nil || err != nil {
				t.Errorf("what is sealed under the first key is sealed again, %v", err)
			}
			if got, err := both.Reseal("elsewhere", envelope); got != nil || !errors.Is(err, secret.ErrOpen) {
				t.Errorf("for another place: %v", err)
			}
		}
	}
	var unknown *secret.UnknownKeyError
	if got, err := ring(t, key(2)).Reseal("place", ring(t, key(1)).Seal("place", nil)); got != nil || !errors.As(err, &unknown) {
		t.Errorf("a missing key: %v", err)
	}
	empty, err := ring(t, key(2), key(1)).Reseal("place", ring(t, key(1)).Seal("place", nil))
	if err != nil || len(empty) != secret.MinEnvelope {
		t.Errorf("an empty secret: %d bytes, %v", len(empty), err)
	}
}

func TestKeyIDs(t *testing.T) {
	one, two := ring(t, key(1)), ring(t, key(2))
	if got := ring(t, key(2), key(1)).KeyIDs(); !slices.Equal(got, []string{two.KeyID(), one.KeyID()}) {
		t.Errorf("key ids %v", got)
	}
	envelope := one.Seal("place", []byte(text))
	if got := secret.PrefixKeyID(envelope[:secret.PrefixSize]); got != one.KeyID() {
		t.Errorf("the prefix tells %q", got)
	}
	plain := bytes.Repeat([]byte("s"), secret.MinEnvelope)
	for _, prefix := range [][]byte{nil, envelope[:secret.PrefixSize-1], envelope, plain[:secret.PrefixSize]} {
		if got := secret.PrefixKeyID(prefix); got != "" {
			t.Errorf("%x tells %q", prefix, got)
		}
	}
}

func TestReplace(t *testing.T) {
	k := ring(t, key(1))
	old := k.Seal("place", []byte(text))
	k.Replace(ring(t, key(2), key(1)))
	if got, err := k.Open("place", old); err != nil || string(got) != text {
		t.Errorf("what was sealed before: %v", err)
	}
	if got, err := ring(t, key(2)).Open("place", k.Seal("place", []byte(text))); err != nil || string(got) != text {
		t.Errorf("what is sealed after: %v", err)
	}
	k.Replace(ring(t, key(2)))
	if _, err := k.Open("place", old); err == nil {
		t.Error("a key that was taken away opens")
	}
}
