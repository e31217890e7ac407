package adminapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	maxWeight   = 1000
	maxPriority = 1000
)

// keyView is a provider key as the API shows it: never the key itself.
type keyView struct {
	ID        uuid.UUID `json:"id"`
	Provider  string    `json:"provider"`
	Display   string    `json:"display"`
	Label     string    `json:"label"`
	Weight    int       `json:"weight"`
	Priority  int       `json:"priority"`
	IsActive  bool      `json:"is_active"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func viewKey(k *project.Key) keyView {
	return keyView{
		ID: k.ID, Provider: k.Provider, Display: display(k.Last4), Label: k.Label, Weight: k.Weight, Priority: k.Priority,
		IsActive: k.Active, CreatedAt: k.CreatedAt.UTC(), UpdatedAt: k.UpdatedAt.UTC(),
	}
}

func (a *API) listKeys(c *call) (answer, error) {
	ctx := c.r.Context()
	if _, err := a.store.Project(ctx, c.ids[0]); err != nil {
		return answer{}, found("project", err)
	}
	keys, err := a.store.Keys(ctx, c.ids[0])
	if err != nil {
		return answer{}, err
	}
	views := make([]keyView, 0, len(keys))
	for i := range keys {
		views = append(views, viewKey(&keys[i]))
	}
	return ok(views)
}

// keySettings are the members that both creating and changing a key take.
type keySettings struct {
	APIKey   opt[string] `json:"api_key"`
	Label    opt[string] `json:"label"`
	Weight   opt[int]    `json:"weight"`
	Priority opt[int]    `json:"priority"`
	IsActive opt[bool]   `json:"is_active"`
}

func (in *keySettings) apply(ch changes, k *project.Key) error {
	return firstOf(
		checkKey(in.APIKey),
		setName(ch, "label", &k.Label, in.Label),
		setRange(ch, "weight", &k.Weight, in.Weight, 1, maxWeight),
		setRange(ch, "priority", &k.Priority, in.Priority, 0, maxPriority),
		set(ch, "is_active", &k.Active, in.IsActive),
	)
}

type keyCreate struct {
	Provider opt[string] `json:"provider"`
	keySettings
}

func (a *API) createKey(c *call) (answer, error) {
	var in keyCreate
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	template := project.Key{ProjectID: c.ids[0], Weight: 1, Active: true}
	ch := changes{"api_key": {After: redacted}}
	if err := firstOf(
		required("provider", in.Provider),
		required("api_key", in.APIKey),
		set(ch, "provider", &template.Provider, in.Provider),
		a.checkProvider(in.Provider.value),
		in.apply(ch, &template),
	); err != nil {
		return answer{}, err
	}
	var view keyView
	ctx := c.r.Context()
	err := a.store.Update(ctx, func(tx *storage.Tx) error {
		if _, err := tx.Project(ctx, c.ids[0]); err != nil {
			return found("project", err)
		}
		keys, err := tx.Keys(ctx, c.ids[0])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(keys, func(k project.Key) bool { return k.Provider == template.Provider }) {
			return fail(codeKeyExists, "provider: the project has a key for it; PATCH that key to replace it")
		}
		k := template // the storage may run this again
		if err := tx.CreateKey(ctx, &k, secret.NewValue(in.APIKey.value)); err != nil {
			return err
		}
		view = viewKey(&k)
		return a.auditKey(ctx, c, tx, audit.KeyCreate, k.ID, ch)
	})
	if err != nil {
		return answer{}, err
	}
	return created(c.r.URL.Path+"/"+view.ID.String(), view)
}

func (a *API) patchKey(c *call) (answer, error) {
	var in keySettings
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	var view keyView
	ctx := c.r.Context()
	err := a.store.Update(ctx, func(tx *storage.Tx) error {
		k, err := tx.Key(ctx, c.ids[0], c.ids[1])
		if err != nil {
			return found("key", err)
		}
		ch := changes{}
		if err := in.apply(ch, k); err != nil {
			return err
		}
		var replacement *secret.Value
		if in.APIKey.set {
			s := secret.NewValue(in.APIKey.value)
			replacement = &s
			ch["api_key"] = audit.Change{Before: redacted, After: redacted}
		}
		if len(ch) == 0 {
			view = viewKey(k)
			return nil
		}
		if err := tx.UpdateKey(ctx, k, replacement); err != nil {
			return err
		}
		view = viewKey(k)
		return a.auditKey(ctx, c, tx, audit.KeyUpdate, k.ID, ch)
	})
	if err != nil {
		return answer{}, err
	}
	return ok(view)
}

func (a *API) deleteKey(c *call) (answer, error) {
	ctx := c.r.Context()
	err := a.store.Update(ctx, func(tx *storage.Tx) error {
		k, err := tx.Key(ctx, c.ids[0], c.ids[1])
		if err != nil {
			return found("key", err)
		}
		if err := tx.DeleteKey(ctx, k.ProjectID, k.ID); err != nil {
			return err
		}
		return a.auditKey(ctx, c, tx, audit.KeyDelete, k.ID, changes{
			"provider": {Before: k.Provider},
			"api_key":  {Before: redacted},
		})
	})
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func (a *API) auditKey(ctx context.Context, c *call, tx *storage.Tx, action string, id uuid.UUID, ch changes) error {
	e := a.entry(c, action)
	e.TargetType, e.TargetID, e.ProjectID, e.Changes = audit.TargetProviderKey, id, c.ids[0], ch
	return tx.Audit(ctx, e)
}
