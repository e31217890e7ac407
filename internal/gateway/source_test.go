package gateway_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

var (
	errNoRow = errors.New("no rows")
	pepper   = bytes.Repeat([]byte{7}, token.PepperSize)
)

// store is a token.Source in memory.
type store struct {
	mu       sync.Mutex
	tokens   map[uuid.UUID]token.Token
	projects map[uuid.UUID]project.Snapshot
	away     error // what look-ups fail with
	lookups  int
}

func newStore() *store {
	return &store{tokens: make(map[uuid.UUID]token.Token), projects: make(map[uuid.UUID]project.Snapshot)}
}

func (s *store) Pepper() []byte          { return pepper }
func (s *store) NotFound(err error) bool { return errors.Is(err, errNoRow) }

func (s *store) LoadToken(_ context.Context, id uuid.UUID) (*token.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookups++
	tok, ok := s.tokens[id]
	switch {
	case s.away != nil:
		return nil, s.away
	case !ok:
		return nil, errNoRow
	}
	return &token.Record{Token: tok, Project: s.projects[tok.ProjectID]}, nil
}

func (s *store) LoadProject(_ context.Context, id uuid.UUID) (*project.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.projects[id]
	switch {
	case s.away != nil:
		return nil, s.away
	case !ok:
		return nil, errNoRow
	}
	return &p, nil
}

// addProject makes an active project, as shape leaves it.
func (s *store) addProject(shape func(*project.Snapshot)) uuid.UUID {
	p := project.Snapshot{Project: project.Project{ID: uuid.Must(uuid.NewV7()), Name: "acme", Active: true, UseSharedKeys: true, Version: 1}}
	if shape != nil {
		shape(&p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.projects[p.ID] = p
	return p.ID
}

// addToken mints an active token of the project, as shape leaves it.
func (s *store) addToken(t testing.TB, projectID uuid.UUID, shape func(*token.Token)) (string, uuid.UUID) {
	t.Helper()
	text, secret := mint(t)
	hash := secret.Hash(pepper)
	tok := token.Token{ID: secret.ID, ProjectID: projectID, Name: "laptop", Active: true, Hash: hash[:], HashScheme: token.SchemeHMAC, Version: 1}
	if shape != nil {
		shape(&tok)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[tok.ID] = tok
	return text, tok.ID
}

// mint is token.Mint on the bubble's clock: the generator behind token.Mint never
// goes back to a time before one that it has seen.
func mint(t testing.TB) (string, token.Secret) {
	t.Helper()
	var raw [48]byte
	_, _ = rand.Read(raw[:])
	binary.BigEndian.PutUint64(raw[:], uint64(time.Now().UnixMilli())<<16|7<<12)
	raw[8] = 0x80 | raw[8]&0x3f
	text := token.Prefix + base64.RawURLEncoding.EncodeToString(raw[:16]) + base64.RawURLEncoding.EncodeToString(raw[16:])
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum, check := crc32.ChecksumIEEE([]byte(text)), []byte("000000")
	for i := len(check) - 1; i >= 0; i-- {
		check[i] = digits[sum%62]
		sum /= 62
	}
	text += string(check)
	secret, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return text, secret
}

func (s *store) setAway(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = err
}

// changeToken commits a change and returns its announcement.
func (s *store) changeToken(id uuid.UUID, change func(*token.Token)) token.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	tok := s.tokens[id]
	change(&tok)
	tok.Version++
	s.tokens[id] = tok
	return token.Change{Kind: token.TokenChanged, ID: id, Version: tok.Version, Revoked: !tok.Active}
}

func (s *store) revoke(id uuid.UUID) token.Change {
	return s.changeToken(id, func(tok *token.Token) { tok.Active = false })
}

// changeProject commits a change and returns its announcement.
func (s *store) changeProject(id uuid.UUID, change func(*project.Snapshot)) token.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.projects[id]
	change(&p)
	p.Version++
	s.projects[id] = p
	return token.Change{Kind: token.ProjectChanged, ID: id, Version: p.Version, Revoked: !p.Active}
}

func (s *store) deactivate(id uuid.UUID) token.Change {
	return s.changeProject(id, func(p *project.Snapshot) { p.Active = false })
}

// revokeAll commits the revocation of all of a project's tokens.
func (s *store) revokeAll(id uuid.UUID) token.Change {
	c := s.changeProject(id, func(*project.Snapshot) {})
	s.mu.Lock()
	defer s.mu.Unlock()
	for tid, tok := range s.tokens {
		if tok.ProjectID == id {
			tok.Active = false
			tok.Version++
			s.tokens[tid] = tok
		}
	}
	return token.Change{Kind: token.ProjectTokensRevoked, ID: id, Version: c.Version, Revoked: true}
}
