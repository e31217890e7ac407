package token

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/maypok86/otter/v2"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// Reasons why a token is not accepted. ErrExpired, ErrInactive and
// ErrProjectInactive are told only to a client whose secret matched.
var (
	ErrUnknown         = errors.New("unknown token")
	ErrExpired         = errors.New("token has expired")
	ErrInactive        = errors.New("token was revoked")
	ErrProjectInactive = errors.New("project is inactive")
	ErrUnavailable     = errors.New("tokens cannot be looked up")
)

// Source is where tokens come from. LoadToken returns an error that NotFound
// recognises when there is no such row; any other error means that the database is away.
type Source interface {
	LoadToken(ctx context.Context, id uuid.UUID) (*Record, error)
	LoadProject(ctx context.Context, id uuid.UUID) (*project.Snapshot, error)
	Pepper() []byte
	NotFound(err error) bool
}

// Options of an [Authority]; zero fields take the defaults.
type Options struct {
	TTL         time.Duration        // how long a row is trusted; default 30 s, with up to a tenth of jitter
	NegativeTTL time.Duration        // how long an unknown id stays unknown; default 5 s
	OutageGrace time.Duration        // how long a stale row is used while the database is away; default 5 m, negative: not at all
	LoadTimeout time.Duration        // bound of one look-up; default 5 s
	WaitTimeout time.Duration        // how long a request waits for a look-up; default 1.5 s
	MaxTokens   int                  // bound of remembered tokens; default 100,000
	MaxNegative int                  // bound of remembered unknown ids; default 100,000
	ClockOffset func() time.Duration // what the database's clock is ahead of this one's; default: nothing
	Logger      *slog.Logger
}

const (
	// floorTTL is how long a version floor is kept: longer than any look-up can take.
	floorTTL = 2 * time.Minute
	// maxSkew is how far in the future a token may have been issued.
	maxSkew = 5 * time.Minute
)

// Authority recognises tokens from memory. A token that it has not seen costs
// one query, shared by all requests that ask at once; a known one costs none.
// What the database says is trusted for Options.TTL and dropped as soon as
// [Authority.Changed] announces a newer version. It is safe for concurrent use.
type Authority struct {
	source Source
	opts   Options

	tokens   *otter.Cache[uuid.UUID, *entry]
	projects *otter.Cache[uuid.UUID, *projectEntry]
	unknown  *otter.Cache[uuid.UUID, time.Time]
	macs     macs
	loads    loadGroup
	sieve    sieve

	mu         sync.Mutex // orders floors against what is remembered
	floors     map[floorKey]floor
	swept      time.Time
	generation atomic.Uint64
	epoch      atomic.Uint64 // grows when what was asked for before is out of date, see DistrustAll
	failedAt   atomic.Int64  // UnixNano of the last look-up, if it failed; 0: it did not

	ctx       context.Context
	stop      context.CancelFunc
	workers   sync.WaitGroup
	workersMu sync.Mutex // orders starting a worker against Close
}

// entry is a remembered token, immutable but for its age.
type entry struct {
	token          Token
	rules          project.Rules
	text           string // of its id
	projectVersion int64  // of the project, when the token was read
	age
}

type projectEntry struct {
	snapshot *project.Snapshot
	rules    project.Rules
	text     string // of its id
	age
}

type floorKey struct {
	kind ChangeKind
	id   uuid.UUID
}

type floor struct {
	version int64
	until   time.Time
}

// Identity is an accepted token with its project.
type Identity struct {
	Token        *Token
	TokenRules   *project.Rules
	TokenText    string // the token's id as text, made once
	Project      *project.Snapshot
	ProjectRules *project.Rules
	ProjectText  string
}

// NewAuthority makes an authority over source. Close it.
func NewAuthority(source Source, opts Options) *Authority {
	setDefault(&opts.TTL, 30*time.Second)
	setDefault(&opts.NegativeTTL, 5*time.Second)
	setDefault(&opts.OutageGrace, 5*time.Minute)
	setDefault(&opts.LoadTimeout, 5*time.Second)
	setDefault(&opts.WaitTimeout, 1500*time.Millisecond)
	setDefault(&opts.MaxTokens, 100_000)
	setDefault(&opts.MaxNegative, 100_000)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authority{
		source:   source,
		opts:     opts,
		tokens:   otter.Must(&otter.Options[uuid.UUID, *entry]{MaximumSize: opts.MaxTokens}),
		projects: otter.Must(&otter.Options[uuid.UUID, *projectEntry]{MaximumSize: opts.MaxTokens}),
		unknown:  otter.Must(&otter.Options[uuid.UUID, time.Time]{MaximumSize: opts.MaxNegative}),
		floors:   make(map[floorKey]floor),
	}
	a.sieve.source, _ = source.(Sieve)
	a.ctx, a.stop = context.WithCancel(context.Background())
	return a
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Close stops background refreshes and waits for them.
func (a *Authority) Close() {
	a.workersMu.Lock()
	a.stop()
	a.workersMu.Unlock()
	a.workers.Wait()
}

// spawn runs work on a goroutine that Close waits for, or reports that it is
// too late for that.
func (a *Authority) spawn(work func()) bool {
	a.workersMu.Lock()
	defer a.workersMu.Unlock()
	if a.ctx.Err() != nil {
		return false
	}
	a.workers.Go(work)
	return true
}

// Generation changes whenever a change announced that requests must end.
// A request that finds it changed after it has registered itself asks again.
func (a *Authority) Generation() uint64 { return a.generation.Load() }

// Authenticate recognises a token's text. The errors are [ErrMalformed],
// [ErrUnknown] (a wrong secret too), [ErrExpired], [ErrInactive],
// [ErrProjectInactive], or one that wraps [ErrUnavailable].
func (a *Authority) Authenticate(ctx context.Context, text string) (Identity, error) {
	s, err := Parse(text)
	if err != nil {
		return Identity{}, err
	}
	now := time.Now()
	if !s.legacy && s.IssuedAt().Sub(now.Add(a.clockOffset())) > maxSkew {
		return Identity{}, ErrMalformed
	}
	id, err := a.rowID(&s)
	if err != nil {
		return Identity{}, err
	}
	e, err := a.token(ctx, id, now)
	if err != nil {
		return Identity{}, err
	}
	if !a.matches(&s, e.token.HashScheme, e.token.Hash) {
		return Identity{}, ErrUnknown
	}
	return a.accept(ctx, e, now)
}

// RowID is the id of the row that a token's text asks for, whether or not there
// is one. It says nothing about whether the token is accepted.
func (a *Authority) RowID(text string) (uuid.UUID, error) {
	s, err := Parse(text)
	if err != nil {
		return uuid.Nil, err
	}
	return a.rowID(&s)
}

// Check reports whether a token that was recognised before is still accepted,
// with the errors of [Authority.Authenticate].
func (a *Authority) Check(ctx context.Context, id uuid.UUID) error {
	now := time.Now()
	e, err := a.token(ctx, id, now)
	if err != nil {
		return err
	}
	_, err = a.accept(ctx, e, now)
	return err
}

// accept decides on a token that is who it says it is.
func (a *Authority) accept(ctx context.Context, e *entry, now time.Time) (Identity, error) {
	switch {
	case !e.token.Active:
		return Identity{}, ErrInactive
	case e.token.Expired(now):
		return Identity{}, ErrExpired
	}
	p, err := a.project(ctx, e.token.ProjectID, now)
	if err != nil {
		return Identity{}, err
	}
	if !p.snapshot.Active {
		return Identity{}, ErrProjectInactive
	}
	return Identity{
		Token: &e.token, TokenRules: &e.rules, TokenText: e.text,
		Project: p.snapshot, ProjectRules: &p.rules, ProjectText: p.text,
	}, nil
}

func (a *Authority) clockOffset() time.Duration {
	if a.opts.ClockOffset == nil {
		return 0
	}
	return a.opts.ClockOffset()
}

func (a *Authority) token(ctx context.Context, id uuid.UUID, now time.Time) (*entry, error) {
	e, ok := a.tokens.GetIfPresent(id)
	switch {
	case !ok:
		if until, ok := a.unknown.GetIfPresent(id); ok && now.Before(until) {
			return nil, ErrUnknown
		}
		return await(ctx, a, id, a.firstLook)
	case a.fresh(&e.age, now):
		return e, nil
	case a.usable(&e.age, now):
		a.refresh(&e.age, now, func(ctx context.Context) error {
			_, err := a.loadToken(ctx, id)
			return err
		})
		return e, nil
	}
	fresh, err := await(ctx, a, id, a.loadToken)
	if a.outlives(ctx, &e.age, err, now) && a.believes(e) {
		return e, nil
	}
	return fresh, err
}

func (a *Authority) project(ctx context.Context, id uuid.UUID, now time.Time) (*projectEntry, error) {
	p, ok := a.projects.GetIfPresent(id)
	switch {
	case !ok:
		return await(ctx, a, id, a.loadProject)
	case a.fresh(&p.age, now):
		return p, nil
	case a.usable(&p.age, now):
		a.refresh(&p.age, now, func(ctx context.Context) error {
			_, err := a.loadProject(ctx, id)
			return err
		})
		return p, nil
	}
	fresh, err := await(ctx, a, id, a.loadProject)
	if a.outlives(ctx, &p.age, err, now) && a.believesProject(p) {
		return p, nil
	}
	return fresh, err
}
