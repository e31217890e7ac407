package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
)

// Levels of a [Check].
const (
	OK   = "ok"
	Warn = "warn"
	Fail = "fail"
)

// Check is one finding of the doctor.
type Check struct {
	Status string `json:"status"` // ok, warn or fail
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

// SecretSource is where a secret comes from: the configuration or the environment,
// or else a file beside the database.
type SecretSource struct {
	Given string // a word for the place, "" when it is File
	File  string
	Err   error  // why it cannot be had from where the configuration says
	Bad   string // why it will not do
}

// Endpoint is a provider as far as its address goes.
type Endpoint struct {
	Name    string
	BaseURL string
	Err     error // why the configuration gives no address
}

// Patient is a configuration, taken apart, for [Examine].
type Patient struct {
	ConfigName  string // "" when there is none and defaults apply
	ConfigErr   error  // why the configuration would be refused
	Config      []byte // as Caddy's JSON; nil when it could not be read
	Database    *Database
	DatabaseErr error
	Redis       *redisconn.Settings // nil: none is configured
	RedisErr    error               // why the configuration gives no address
	Key         SecretSource
	Token       SecretSource
	Providers   []Endpoint
}

// probes are the doctor's instruments; tests replace them.
type probes struct {
	client *http.Client // for the time of day; never sends credentials
	dial   dialFunc
	now    func() time.Time
}

// Examine checks an installation. It reads and connects, and changes nothing.
func Examine(ctx context.Context, p Patient, trust Trust) ([]Check, error) {
	probes, err := newProbes(trust)
	if err != nil {
		return nil, err
	}
	return examine(ctx, p, probes), nil
}

func examine(ctx context.Context, p Patient, probes probes) []Check {
	checks := []Check{checkConfig(p)}
	if p.Config == nil {
		return checks // nothing else is known
	}
	checks = append(checks, checkDatabase(ctx, p))
	checks = append(checks, checkRedis(ctx, p)...)
	exists := p.Database != nil && p.Database.exists()
	checks = append(checks,
		checkSecretFile("encryption-key", p.Key, exists, "put the file back: without it provider keys cannot be opened"),
		checkSecretFile("management-token", p.Token, exists, "the next start makes it"),
	)
	checks = append(checks, checkProviders(ctx, p.Providers, probes)...)
	checks = append(checks, checkAccessLogs(p.Config)...)
	return append(checks, checkLiterals(p.Config)...)
}

// Report writes the findings; a failed check is an error.
func Report(out Output, checks []Check) error {
	failed := 0
	for i := range checks {
		checks[i].Detail = OneLine(checks[i].Detail)
		if checks[i].Status == Fail {
			failed++
		}
	}
	if out.JSON {
		if err := out.value(struct {
			OK     bool    `json:"ok"`
			Checks []Check `json:"checks"`
		}{failed == 0, checks}); err != nil {
			return err
		}
	} else {
		width := 0
		for _, c := range checks {
			width = max(width, len(c.Name))
		}
		for _, c := range checks {
			if _, err := fmt.Fprintf(out.Out, "%-4s  %-*s  %s\n", c.Status, width, OneLine(c.Name), c.Detail); err != nil {
				return err
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s: see above what to do", plural(failed, "check failed", "checks failed"))
	}
	return nil
}

func checkConfig(p Patient) Check {
	switch {
	case p.ConfigErr != nil:
		return Check{Fail, "config", p.ConfigErr.Error()}
	case p.ConfigName == "":
		return Check{Warn, "config", "no Caddyfile here, so defaults were examined: name one with --config"}
	}
	return Check{OK, "config", p.ConfigName + " is valid"}
}

func checkDatabase(ctx context.Context, p Patient) Check {
	const name = "database"
	if p.Database == nil {
		err := p.DatabaseErr
		if err == nil {
			err = errors.New("the configuration does not tell where it is")
		}
		return Check{Fail, name, err.Error()}
	}
	s, err := readSchema(ctx, *p.Database)
	if err == nil {
		err = s.problem()
	}
	if err != nil {
		return Check{Fail, name, err.Error()}
	}
	return Check{OK, name, fmt.Sprintf("%s opens and is at version %d", p.Database, s.version)}
}

// each runs f for every index at the same time and waits for all.
func each(n int, f func(int)) {
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() { f(i) })
	}
	work.Wait()
}
