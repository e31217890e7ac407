package adminapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// pingTimeout is how long /ready waits for the database. It is below what load
// balancers wait for, so that they get an answer instead of a time-out.
const pingTimeout = 2 * time.Second

type healthView struct {
	Status    string    `json:"status"`
	Timestamp time.Time `json:"timestamp"`
	Version   string    `json:"version"`
}

type liveView struct {
	Status string `json:"status"`
}

type readyView struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks"`
}

func (a *API) health(*call) (answer, error) {
	return ok(healthView{Status: "ok", Timestamp: a.now().UTC(), Version: a.version})
}

// live says that the process answers, and nothing about what it depends on.
func (a *API) live(*call) (answer, error) { return ok(liveView{Status: "alive"}) }

// readiness says whether requests can be served. Strangers may ask, so it tells
// which check failed and never why; that is logged once per transition.
func (a *API) readiness(c *call) (answer, error) {
	err := a.ready()
	if err == nil {
		ctx, cancel := context.WithTimeout(c.r.Context(), pingTimeout)
		defer cancel()
		err = a.store.Ping(ctx)
	}
	// A caller that left makes the ping fail and says nothing about the database.
	if failed := err != nil; c.r.Context().Err() == nil && a.unready.Swap(failed) != failed {
		if failed {
			a.log.LogAttrs(c.r.Context(), slog.LevelError, "not ready", slog.Any("error", err))
		} else {
			a.log.LogAttrs(c.r.Context(), slog.LevelInfo, "ready again")
		}
	}
	checks := map[string]string{"database": "ok"}
	if a.redis != nil {
		checks["redis"] = "ok"
		if !a.redis() { // requests are served without it
			checks["redis"] = "degraded"
		}
	}
	if err != nil {
		checks["database"] = "unavailable"
		return answer{
			status: http.StatusServiceUnavailable,
			header: http.Header{"Retry-After": {retryAfter}},
			body:   readyView{Status: "unavailable", Checks: checks},
		}, nil
	}
	return ok(readyView{Status: "ready", Checks: checks})
}
