package adminapi

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const defaultProvider = "openai"

// projectView is a project as the API shows it.
type projectView struct {
	ID            uuid.UUID  `json:"id"`
	Name          string     `json:"name"`
	APIKey        string     `json:"api_key"` // the first key as shown to people, "" when there is none
	IsActive      bool       `json:"is_active"`
	DeactivatedAt *time.Time `json:"deactivated_at,omitempty"`
	UseSharedKeys bool       `json:"use_shared_keys"`
	project.Policy
	LimitsUsage []balanceView `json:"limits_usage,omitzero"` // of a project that is asked for by its id
	CreatedAt   time.Time     `json:"created_at"`
	UpdatedAt   time.Time     `json:"updated_at"`
}

func viewProject(p *project.Project, keys []project.Key) projectView {
	v := projectView{
		ID: p.ID, Name: p.Name, IsActive: p.Active, DeactivatedAt: utc(p.DeactivatedAt),
		UseSharedKeys: p.UseSharedKeys, Policy: p.Policy, CreatedAt: p.CreatedAt.UTC(), UpdatedAt: p.UpdatedAt.UTC(),
	}
	if len(keys) > 0 {
		first := slices.MinFunc(keys, func(a, b project.Key) int {
			if n := a.CreatedAt.Compare(b.CreatedAt); n != 0 {
				return n
			}
			return strings.Compare(string(a.ID[:]), string(b.ID[:]))
		})
		v.APIKey = display(first.Last4)
	}
	return v
}

func (a *API) listProjects(c *call) (answer, error) {
	ctx := c.r.Context()
	p, err := c.page()
	if err != nil {
		return answer{}, err
	}
	filter := storage.ProjectFilter{Query: c.query["q"], After: p.after, Limit: p.limit + 1}
	if filter.Active, err = c.flag("active"); err != nil {
		return answer{}, err
	}
	projects, err := a.store.Projects(ctx, filter)
	if err != nil {
		return answer{}, err
	}
	views := make([]projectView, 0, len(projects))
	for i := range projects {
		keys, err := a.store.Keys(ctx, projects[i].ID)
		if err != nil {
			return answer{}, err
		}
		views = append(views, viewProject(&projects[i], keys))
	}
	total := func() (int64, error) { return a.store.CountProjects(ctx, filter) }
	return listed(c, p, total, views, func(v *projectView) storage.Cursor { return storage.Cursor{CreatedAt: v.CreatedAt, ID: v.ID} })
}

func (a *API) getProject(c *call) (answer, error) {
	p, err := a.store.Project(c.r.Context(), c.ids[0])
	if err != nil {
		return answer{}, found("project", err)
	}
	keys, err := a.store.Keys(c.r.Context(), p.ID)
	if err != nil {
		return answer{}, err
	}
	view := viewProject(p, keys)
	if view.LimitsUsage, err = a.limitsUsage(c.r.Context(), ScopeProject, p.ID, &p.Policy.Limits); err != nil {
		return answer{}, err
	}
	return ok(view)
}

type projectCreate struct {
	Name          opt[string] `json:"name"`
	APIKey        opt[string] `json:"api_key"`
	Provider      opt[string] `json:"provider"`
	IsActive      opt[bool]   `json:"is_active"`
	UseSharedKeys opt[bool]   `json:"use_shared_keys"`
	Prices        opt[prices] `json:"prices"`
	policyFields
	allowFields
}

// project checks the request and makes the project and its first key, if it has one.
func (in *projectCreate) project(a *API, ch changes) (project.Project, *project.Key, error) {
	p := project.Project{Active: true, UseSharedKeys: true}
	if err := firstOf(
		required("name", in.Name),
		checkProjectName(in.Name),
		setName(ch, "name", &p.Name, in.Name),
		set(ch, "is_active", &p.Active, in.IsActive),
		set(ch, "use_shared_keys", &p.UseSharedKeys, in.UseSharedKeys),
		in.apply(ch, &p.Policy),
		in.allowFields.change(ch, &p.Policy.Limits),
		setPrices(ch, &p.Policy.Prices, in.Prices),
		checkKey(in.APIKey),
	); err != nil {
		return p, nil, err
	}
	if !in.APIKey.set {
		if in.Provider.set {
			return p, nil, invalid("provider", "says whose key api_key is; send api_key too, or leave both out")
		}
		return p, nil, nil
	}
	key := &project.Key{Provider: defaultProvider, Weight: 1, Active: true}
	if in.Provider.set {
		key.Provider = in.Provider.value
	}
	if err := a.checkProvider(key.Provider); err != nil {
		return p, nil, err
	}
	ch["api_key"] = audit.Change{After: redacted}
	ch["provider"] = audit.Change{After: key.Provider}
	return p, key, nil
}

func (a *API) createProject(c *call) (answer, error) {
	var in projectCreate
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	ch := changes{}
	template, templateKey, err := in.project(a, ch)
	if err != nil {
		return answer{}, err
	}
	var view projectView
	ctx := c.r.Context()
	err = a.store.Update(ctx, func(tx *storage.Tx) error {
		p := template // the storage may run this again
		if !p.Active {
			now := tx.Now()
			p.DeactivatedAt = &now
		}
		if err := tx.CreateProject(ctx, &p); err != nil {
			return nameTaken(err)
		}
		var keys []project.Key
		if templateKey != nil {
			key := *templateKey
			key.ProjectID = p.ID
			if err := tx.CreateKey(ctx, &key, secret.NewValue(in.APIKey.value)); err != nil {
				return err
			}
			keys = append(keys, key)
		}
		view = viewProject(&p, keys)
		return a.auditProject(ctx, c, tx, audit.ProjectCreate, p.ID, ch)
	})
	if err != nil {
		return answer{}, err
	}
	return created("/manage/projects/"+view.ID.String(), view)
}

type projectPatch struct {
	Name          opt[string] `json:"name"`
	IsActive      opt[bool]   `json:"is_active"`
	RevokeTokens  opt[bool]   `json:"revoke_tokens"`
	UseSharedKeys opt[bool]   `json:"use_shared_keys"`
	Prices        opt[prices] `json:"prices"`
	policyFields
	allowFields
}

func (a *API) patchProject(c *call) (answer, error) {
	var in projectPatch
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	revoke := in.RevokeTokens.value
	switch {
	case in.RevokeTokens.null:
		return answer{}, invalid("revoke_tokens", "may not be null; leave it out instead")
	case revoke && (!in.IsActive.set || in.IsActive.null || in.IsActive.value):
		return answer{}, invalid("revoke_tokens", "requires is_active: false in the same request")
	}
	if err := checkProjectName(in.Name); err != nil {
		return answer{}, err
	}
	var view projectView
	ctx := c.r.Context()
	err := a.store.Update(ctx, func(tx *storage.Tx) error {
		p, err := tx.Project(ctx, c.ids[0])
		if err != nil {
			return found("project", err)
		}
		ch := changes{}
		if err := firstOf(
			setName(ch, "name", &p.Name, in.Name),
			set(ch, "is_active", &p.Active, in.IsActive),
			set(ch, "use_shared_keys", &p.UseSharedKeys, in.UseSharedKeys),
			in.apply(ch, &p.Policy),
			in.allowFields.change(ch, &p.Policy.Limits),
			setPrices(ch, &p.Policy.Prices, in.Prices),
		); err != nil {
			return err
		}
		if _, changed := ch["is_active"]; changed {
			p.DeactivatedAt = nil
			if !p.Active {
				now := tx.Now()
				p.DeactivatedAt = &now
			}
		}
		if len(ch) > 0 {
			if err := tx.UpdateProject(ctx, p); err != nil {
				return nameTaken(err)
			}
		}
		if revoke {
			n, _, err := tx.RevokeProjectTokens(ctx, p.ID, reasonDeactivated)
			if err != nil {
				return err
			}
			ch["revoke_tokens"] = audit.Change{After: n}
			p.UpdatedAt = tx.Now()
		}
		keys, err := tx.Keys(ctx, p.ID)
		if err != nil {
			return err
		}
		view = viewProject(p, keys)
		if len(ch) == 0 {
			return nil
		}
		return a.auditProject(ctx, c, tx, audit.ProjectUpdate, p.ID, ch)
	})
	if err != nil {
		return answer{}, err
	}
	return ok(view)
}

func checkProjectName(name opt[string]) error {
	if name.set && !name.null && name.value == "" {
		return invalid("name", "is empty; write 1 to %d bytes", project.MaxNameBytes)
	}
	return nil
}

func nameTaken(err error) error {
	if errors.Is(err, storage.ErrConflict) {
		return fail(codeProjectExists, "name: another project has it; choose a different one")
	}
	return err
}

func (a *API) auditProject(ctx context.Context, c *call, tx *storage.Tx, action string, id uuid.UUID, ch changes) error {
	e := a.entry(c, action)
	e.TargetType, e.TargetID, e.ProjectID, e.Changes = audit.TargetProject, id, id, ch
	return tx.Audit(ctx, e)
}
