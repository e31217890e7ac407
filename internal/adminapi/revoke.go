package adminapi

import (
	"net/http"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// Reasons that tokens were revoked for when the caller gave none.
const (
	reasonRotated     = "rotated"
	reasonDeactivated = "project_deactivated"
)

const maxOverlapMinutes = 7 * 24 * 60

// revokeToken ends a token for good. Doing it again changes nothing and leaves
// no second record.
func (a *API) revokeToken(c *call) (answer, error) {
	ctx := c.r.Context()
	err := a.store.Update(ctx, func(tx *storage.Tx) error {
		t, err := tx.Token(ctx, c.ids[0])
		if err != nil {
			return found("token", err)
		}
		if !t.Active {
			return nil
		}
		revoke(t, tx.Now(), c.query["reason"])
		if err := tx.UpdateToken(ctx, t); err != nil {
			return err
		}
		return a.auditToken(ctx, c, tx, audit.TokenRevoke, t.ID, t.ProjectID, changes{"is_active": {Before: true, After: false}})
	})
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func revoke(t *token.Token, now time.Time, reason string) {
	t.Active, t.RevokedAt, t.RevokeReason = false, &now, reason
}

// revokedView says what became of a project's tokens.
type revokedView struct {
	Revoked int64 `json:"revoked_count"`
	Already int64 `json:"already_revoked_count"`
	Total   int64 `json:"total_tokens"`
}

func (a *API) revokeProjectTokens(c *call) (answer, error) {
	if err := c.decodeOptional(&struct{}{}); err != nil {
		return answer{}, err
	}
	var view revokedView
	ctx := c.r.Context()
	err := a.store.Update(ctx, func(tx *storage.Tx) error {
		p, err := tx.Project(ctx, c.ids[0])
		if err != nil {
			return found("project", err)
		}
		revoked, already, err := tx.RevokeProjectTokens(ctx, p.ID, c.query["reason"])
		if err != nil {
			return err
		}
		view = revokedView{Revoked: revoked, Already: already, Total: revoked + already}
		return a.auditProject(ctx, c, tx, audit.TokenRevokeBatch, p.ID, changes{"revoked_count": {After: revoked}})
	})
	if err != nil {
		return answer{}, err
	}
	return ok(view)
}

type tokenRotate struct {
	OverlapMinutes opt[int] `json:"overlap_minutes"`
}

// rotateToken replaces a token's secret: a new token with the same policy, name
// and expiry; the old one ends now, or after the overlap in which both work.
func (a *API) rotateToken(c *call) (answer, error) {
	var in tokenRotate
	if err := c.decodeOptional(&in); err != nil {
		return answer{}, err
	}
	overlap := 0
	if err := setRange(changes{}, "overlap_minutes", &overlap, in.OverlapMinutes, 0, maxOverlapMinutes); err != nil {
		return answer{}, err
	}
	ctx := c.r.Context()
	seen, err := a.store.Token(ctx, c.ids[0])
	if err != nil {
		return answer{}, found("token", err)
	}
	var view newTokenView
	err = a.store.Update(ctx, func(tx *storage.Tx) error {
		// The project comes first, as in revoking all its tokens: transactions that
		// lock the same rows in two orders would end each other.
		if err := activeProject(ctx, tx, seen.ProjectID); err != nil {
			return err
		}
		old, err := tx.Token(ctx, c.ids[0])
		if err != nil {
			return found("token", err)
		}
		if !old.Active || old.Expired(tx.Now()) {
			return fail(codeTokenInactive, "the token is revoked or expired; create a new one")
		}
		view, err = a.issue(ctx, tx, token.Token{
			ProjectID: old.ProjectID, Name: old.Name, Active: true, ExpiresAt: old.ExpiresAt, Policy: old.Policy,
		})
		if err != nil {
			return err
		}
		ch := changes{"replaced_by": {After: view.ID.String()}}
		if overlap == 0 {
			revoke(old, tx.Now(), reasonRotated)
			ch["is_active"] = audit.Change{Before: true, After: false}
		} else if end := tx.Now().Add(time.Duration(overlap) * time.Minute); old.ExpiresAt == nil || end.Before(*old.ExpiresAt) {
			changeExpiry(ch, &old.ExpiresAt, &end)
		}
		if err := tx.UpdateToken(ctx, old); err != nil {
			return err
		}
		return a.auditToken(ctx, c, tx, audit.TokenRotate, old.ID, old.ProjectID, ch)
	})
	if err != nil {
		return answer{}, err
	}
	return created("/manage/tokens/"+view.ID.String(), view)
}
