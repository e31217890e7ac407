package token_test

import (
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func BenchmarkParse(b *testing.B) {
	text, _ := mint(b, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	s := newSource()
	text, _ := s.addToken(b, s.addProject())
	a := newAuthority(b, s, token.Options{TTL: time.Hour})
	ctx := b.Context()
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Authenticate(ctx, text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("known, parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := a.Authenticate(ctx, text); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("miss", func(b *testing.B) {
		secret, err := token.Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			a.Changed(token.Change{Kind: token.TokenChanged, ID: secret.ID, Version: 1})
			if _, err := a.Authenticate(ctx, text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		stranger, _ := mint(b, time.Now())
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Authenticate(ctx, stranger); err == nil {
				b.Fatal("an unknown token was accepted")
			}
		}
	})
}
