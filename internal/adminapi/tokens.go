package adminapi

import (
	"context"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const maxDurationMinutes = 10 * 365 * 24 * 60

// tokenView is a token as the API shows it: neither its text nor its hash.
type tokenView struct {
	ID           uuid.UUID  `json:"id"`
	ProjectID    uuid.UUID  `json:"project_id"`
	Name         string     `json:"name"`
	IsActive     bool       `json:"is_active"`
	Expired      bool       `json:"expired"`
	ExpiresAt    *time.Time `json:"expires_at"` // null: never
	RevokedAt    *time.Time `json:"revoked_at,omitempty"`
	RevokeReason string     `json:"revoke_reason,omitempty"`
	project.Policy
	LimitsUsage []balanceView `json:"limits_usage,omitzero"` // of a token that is asked for by its id
	CreatedAt   time.Time     `json:"created_at"`
	UpdatedAt   time.Time     `json:"updated_at"`
}

// newTokenView is the one answer that holds a token's text.
type newTokenView struct {
	Token string `json:"token"`
	tokenView
}

func viewToken(t *token.Token, now time.Time) tokenView {
	return tokenView{
		ID: t.ID, ProjectID: t.ProjectID, Name: t.Name, IsActive: t.Active, Expired: t.Expired(now),
		ExpiresAt: utc(t.ExpiresAt), RevokedAt: utc(t.RevokedAt), RevokeReason: t.RevokeReason,
		Policy: t.Policy, CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC(),
	}
}

func (a *API) listTokens(c *call) (answer, error) {
	ctx := c.r.Context()
	p, err := c.page()
	if err != nil {
		return answer{}, err
	}
	filter := storage.TokenFilter{Query: c.query["q"], After: p.after, Limit: p.limit + 1}
	if filter.Active, err = c.flag("active"); err != nil {
		return answer{}, err
	}
	if filter.ProjectID, err = c.projectFilter(); err != nil {
		return answer{}, err
	}
	tokens, err := a.store.Tokens(ctx, filter)
	if err != nil {
		return answer{}, err
	}
	now := a.now()
	views := make([]tokenView, 0, len(tokens))
	for i := range tokens {
		views = append(views, viewToken(&tokens[i], now))
	}
	total := func() (int64, error) { return a.store.CountTokens(ctx, filter) }
	return listed(c, p, total, views, func(v *tokenView) storage.Cursor { return storage.Cursor{CreatedAt: v.CreatedAt, ID: v.ID} })
}

const expectedProjectID = "expected a project's id (a UUID in lower case)"

// projectFilter reads project_id, which the predecessor spelt projectId.
func (c *call) projectFilter() (uuid.UUID, error) {
	text, given := c.query["project_id"]
	if old, givenOld := c.query["projectId"]; givenOld {
		if given {
			return uuid.Nil, invalid("projectId", "is the old spelling of project_id; send one of them")
		}
		text, given = old, true
	}
	if !given {
		return uuid.Nil, nil
	}
	id, ok := parseID(text)
	if !ok || id.IsNil() {
		return uuid.Nil, invalid("project_id", expectedProjectID)
	}
	return id, nil
}

func (a *API) getToken(c *call) (answer, error) {
	t, err := a.store.Token(c.r.Context(), c.ids[0])
	if err != nil {
		return answer{}, found("token", err)
	}
	view := viewToken(t, a.now())
	if view.LimitsUsage, err = a.limitsUsage(c.r.Context(), ScopeToken, t.ID, &t.Policy.Limits); err != nil {
		return answer{}, err
	}
	return ok(view)
}

type tokenCreate struct {
	ProjectID       opt[string] `json:"project_id"`
	DurationMinutes opt[int]    `json:"duration_minutes"`
	ExpiresAt       opt[string] `json:"expires_at"`
	Name            opt[string] `json:"name"`
	policyFields
}

// token checks the request and makes the token, as of now but for its identity.
func (in *tokenCreate) token(ch changes, now time.Time) (token.Token, error) {
	t := token.Token{Active: true}
	if in.DurationMinutes.set && in.ExpiresAt.set {
		return t, invalid("expires_at", "send either expires_at or duration_minutes")
	}
	minutes := 0
	err := firstOf(
		setRange(changes{}, "duration_minutes", &minutes, in.DurationMinutes, 1, maxDurationMinutes),
		setExpiry(ch, &t.ExpiresAt, in.ExpiresAt, now),
		setName(ch, "name", &t.Name, in.Name),
		in.apply(ch, &t.Policy),
	)
	if err != nil {
		return t, err
	}
	if !in.ExpiresAt.set {
		lifetime := token.DefaultLifetime
		if in.DurationMinutes.set {
			lifetime = time.Duration(minutes) * time.Minute
		}
		at := now.Add(lifetime)
		t.ExpiresAt = &at
	}
	ch["expires_at"] = audit.Change{After: timeOrNever(t.ExpiresAt)} // never is worth a word too
	return t, nil
}

func (a *API) createToken(c *call) (answer, error) {
	var in tokenCreate
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	if err := required("project_id", in.ProjectID); err != nil {
		return answer{}, err
	}
	projectID, valid := parseID(in.ProjectID.value)
	if !valid {
		return answer{}, invalid("project_id", expectedProjectID)
	}
	var view newTokenView
	ctx := c.r.Context()
	err := a.store.Update(ctx, func(tx *storage.Tx) error {
		ch := changes{}
		t, err := in.token(ch, tx.Now())
		if err != nil {
			return err
		}
		t.ProjectID = projectID
		if err := activeProject(ctx, tx, projectID); err != nil {
			return err
		}
		if view, err = a.issue(ctx, tx, t); err != nil {
			return err
		}
		return a.auditToken(ctx, c, tx, audit.TokenCreate, view.ID, projectID, ch)
	})
	if err != nil {
		return answer{}, err
	}
	return created("/manage/tokens/"+view.ID.String(), view)
}

// activeProject refuses tokens for a project that is unknown or deactivated, and
// keeps it as it is until the transaction ends.
func activeProject(ctx context.Context, tx *storage.Tx, id uuid.UUID) error {
	p, err := tx.Project(ctx, id)
	if err != nil {
		return found("project", err)
	}
	if !p.Active {
		return fail(codeProjectInactive, "cannot create tokens for inactive projects")
	}
	return nil
}

// issue gives t an identity and stores it.
func (a *API) issue(ctx context.Context, tx *storage.Tx, t token.Token) (newTokenView, error) {
	text, s, err := token.Mint(tx.Now())
	if err != nil {
		return newTokenView{}, err
	}
	hash := s.Hash(a.store.Pepper())
	t.ID, t.Hash, t.HashScheme = s.ID, hash[:], token.SchemeHMAC
	if err := tx.CreateToken(ctx, &t); err != nil {
		return newTokenView{}, err
	}
	return newTokenView{Token: text, tokenView: viewToken(&t, tx.Now())}, nil
}

type tokenPatch struct {
	IsActive  opt[bool]   `json:"is_active"`
	ExpiresAt opt[string] `json:"expires_at"`
	Name      opt[string] `json:"name"`
	policyFields
}

func (a *API) patchToken(c *call) (answer, error) {
	var in tokenPatch
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	var view tokenView
	ctx := c.r.Context()
	err := a.store.Update(ctx, func(tx *storage.Tx) error {
		t, err := tx.Token(ctx, c.ids[0])
		if err != nil {
			return found("token", err)
		}
		ch := changes{}
		if err := firstOf(
			set(ch, "is_active", &t.Active, in.IsActive),
			setExpiry(ch, &t.ExpiresAt, in.ExpiresAt, tx.Now()),
			setName(ch, "name", &t.Name, in.Name),
			in.apply(ch, &t.Policy),
		); err != nil {
			return err
		}
		if _, changed := ch["is_active"]; changed {
			t.RevokedAt, t.RevokeReason = nil, ""
			if !t.Active {
				now := tx.Now()
				t.RevokedAt = &now
			}
		}
		if len(ch) == 0 {
			view = viewToken(t, tx.Now())
			return nil
		}
		if err := tx.UpdateToken(ctx, t); err != nil {
			return err
		}
		view = viewToken(t, tx.Now())
		return a.auditToken(ctx, c, tx, audit.TokenUpdate, t.ID, t.ProjectID, ch)
	})
	if err != nil {
		return answer{}, err
	}
	return ok(view)
}

func (a *API) auditToken(ctx context.Context, c *call, tx *storage.Tx, action string, id, projectID uuid.UUID, ch changes) error {
	e := a.entry(c, action)
	e.TargetType, e.TargetID, e.ProjectID, e.Changes = audit.TargetToken, id, projectID, ch
	return tx.Audit(ctx, e)
}
