package token_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

var (
	errNotFound = errors.New("no rows")
	errAway     = errors.New("connection refused")
	testPepper  = bytes.Repeat([]byte{9}, token.PepperSize)
)

// source is a database in memory.
type source struct {
	mu       sync.Mutex
	tokens   map[uuid.UUID]token.Token
	projects map[uuid.UUID]project.Snapshot
	away     error                  // what every query fails with
	pepper   atomic.Pointer[[]byte] // in place of testPepper

	queries  atomic.Int64 // LoadToken
	projectQ atomic.Int64 // LoadProject
	// answer, when set, is called with what a query has read, before it returns:
	// a query that is slow to come back.
	answer atomic.Pointer[func(ctx context.Context)]
}

func newSource() *source {
	return &source{tokens: make(map[uuid.UUID]token.Token), projects: make(map[uuid.UUID]project.Snapshot)}
}

func (s *source) Pepper() []byte {
	if pepper := s.pepper.Load(); pepper != nil {
		return *pepper
	}
	return testPepper
}
func (s *source) NotFound(err error) bool { return errors.Is(err, errNotFound) }

func (s *source) LoadToken(ctx context.Context, id uuid.UUID) (*token.Record, error) {
	s.queries.Add(1)
	rec, err := s.readToken(id)
	s.delay(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return rec, err
}

func (s *source) readToken(id uuid.UUID) (*token.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return nil, s.away
	}
	tok, ok := s.tokens[id]
	if !ok {
		return nil, errNotFound
	}
	return &token.Record{Token: tok, Project: s.projects[tok.ProjectID]}, nil
}

func (s *source) LoadProject(ctx context.Context, id uuid.UUID) (*project.Snapshot, error) {
	s.projectQ.Add(1)
	s.mu.Lock()
	p, ok := s.projects[id]
	err := s.away
	s.mu.Unlock()
	s.delay(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case !ok:
		return nil, errNotFound
	}
	return &p, nil
}

func (s *source) delay(ctx context.Context) {
	if answer := s.answer.Load(); answer != nil {
		(*answer)(ctx)
	}
}

// onAnswer sets what happens before a query returns; nil: nothing.
func (s *source) onAnswer(answer func(context.Context)) {
	if answer == nil {
		s.answer.Store(nil)
		return
	}
	s.answer.Store(&answer)
}

// hold makes queries wait, once they have read, until release is called. entered
// counts them.
func (s *source) hold() (release func(), entered *atomic.Int64) {
	gate := make(chan struct{})
	entered = new(atomic.Int64)
	s.onAnswer(func(ctx context.Context) {
		entered.Add(1)
		select {
		case <-gate:
		case <-ctx.Done():
		}
	})
	return func() { s.onAnswer(nil); close(gate) }, entered
}

func (s *source) setAway(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = err
}

// addProject makes an active project.
func (s *source) addProject() uuid.UUID {
	p := project.Snapshot{Project: project.Project{ID: uuid.Must(uuid.NewV4()), Name: "p", Active: true, Version: 1}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.projects[p.ID] = p
	return p.ID
}

// addToken mints an active token of the project.
func (s *source) addToken(t testing.TB, projectID uuid.UUID) (string, uuid.UUID) {
	t.Helper()
	text, secret := mint(t, time.Now())
	s.insert(secret, projectID)
	return text, secret.ID
}

func (s *source) insert(secret token.Secret, projectID uuid.UUID) {
	id, hash := secret.RowID(s.Pepper()), secret.Hash(s.Pepper())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[id] = token.Token{ID: id, ProjectID: projectID, Active: true, Hash: hash[:], HashScheme: secret.Scheme(), Version: 1}
}

// addLegacy adds a token of the predecessor's, as its database holds it.
func (s *source) addLegacy(t testing.TB, projectID uuid.UUID, stored string) string {
	t.Helper()
	secret, err := token.ParseLegacy(stored)
	if err != nil {
		t.Fatal(err)
	}
	s.insert(secret, projectID)
	return stored
}

// change commits a change of a token and returns its announcement.
func (s *source) change(id uuid.UUID, change func(*token.Token)) token.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	tok := s.tokens[id]
	change(&tok)
	tok.Version++
	s.tokens[id] = tok
	return token.Change{Kind: token.TokenChanged, ID: id, Version: tok.Version, Revoked: !tok.Active}
}

func revoke(tok *token.Token) { tok.Active = false }

// changeProject commits a change of a project and returns its announcement.
func (s *source) changeProject(id uuid.UUID, change func(*project.Snapshot)) token.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.projects[id]
	change(&p)
	p.Version++
	s.projects[id] = p
	return token.Change{Kind: token.ProjectChanged, ID: id, Version: p.Version, Revoked: !p.Active}
}

func deactivate(p *project.Snapshot) { p.Active = false }

// revokeAll commits the revocation of all of a project's tokens.
func (s *source) revokeAll(projectID uuid.UUID) token.Change {
	c := s.changeProject(projectID, func(*project.Snapshot) {})
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, tok := range s.tokens {
		if tok.ProjectID == projectID {
			tok.Active = false
			tok.Version++
			s.tokens[id] = tok
		}
	}
	return token.Change{Kind: token.ProjectTokensRevoked, ID: projectID, Version: c.Version, Revoked: true}
}

// newAuthority makes an authority that is closed at the end of the test.
func newAuthority(t testing.TB, s *source, opts token.Options) *token.Authority {
	t.Helper()
	a := token.NewAuthority(s, opts)
	t.Cleanup(a.Close)
	return a
}

// wantAuth authenticates and compares the error; nil means accepted.
func wantAuth(t testing.TB, a *token.Authority, text string, want error) token.Identity {
	t.Helper()
	id, err := a.Authenticate(t.Context(), text)
	if !errors.Is(err, want) {
		t.Fatalf("Authenticate: %v, want %v", err, want)
	}
	if err != nil && id != (token.Identity{}) {
		t.Fatalf("Authenticate gave an identity with %v", err)
	}
	return id
}

// wantQueries compares the number of token queries so far.
func wantQueries(t testing.TB, s *source, want int64) {
	t.Helper()
	if got := s.queries.Load(); got != want {
		t.Fatalf("%d token queries, want %d", got, want)
	}
}
