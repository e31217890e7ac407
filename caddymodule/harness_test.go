package caddymodule

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gofrs/uuid/v5"

	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// object is a piece of JSON configuration.
type object = map[string]any

// caddyStorage is where Caddy keeps its own things during the tests.
var caddyStorage string

// site is the configuration of one server on a free loopback port.
func site(app object, handlers ...object) object {
	return object{
		"storage": object{"module": "file_system", "root": caddyStorage},
		"admin":   object{"disabled": true, "config": object{"persist": false}},
		"logging": object{"logs": object{"default": object{"writer": object{"output": "discard"}}}},
		"apps": object{
			"llm_proxy": app,
			"http": object{"servers": object{"srv": object{
				"listen":          []string{"127.0.0.1:0"},
				"automatic_https": object{"disable": true},
				"routes":          []object{{"handle": handlers}},
			}}},
		},
	}
}

// sqliteApp is an app with its database in dir.
func sqliteApp(dir string) object {
	return object{
		"database":         object{"driver": "sqlite", "dsn": filepath.Join(dir, "llm-proxy.db")},
		"management_token": "management-token-of-the-test",
	}
}

// load makes cfg Caddy's running configuration until the test ends.
func load(t testing.TB, cfg object) {
	t.Helper()
	if err := reload(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func reload(cfg object) error {
	data, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	return caddy.Load(data, true)
}

// server is the running configuration's only HTTP server.
func server(t testing.TB) *caddyhttp.Server {
	t.Helper()
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*caddyhttp.App).Servers["srv"]
}

func baseURL(t testing.TB) string {
	t.Helper()
	return "http://" + server(t).Listeners()[0].Addr().String()
}

func activeApp(t testing.TB) *App {
	t.Helper()
	app, err := caddy.ActiveContext().App("llm_proxy")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*App)
}

// client is a project with one key and one token.
type client struct {
	project uuid.UUID
	token   uuid.UUID
	text    string
}

const providerKey = "sk-provider-canary-0123456789"

// enrol makes a project with a key for the provider and a token.
func enrol(t testing.TB, store *storage.DB, provider string, policy project.Policy) client {
	t.Helper()
	var c client
	err := store.Update(context.Background(), func(tx *storage.Tx) error {
		p := &project.Project{Name: "project " + uuid.Must(uuid.NewV4()).String(), Active: true, UseSharedKeys: true}
		if err := tx.CreateProject(t.Context(), p); err != nil {
			return err
		}
		k := &project.Key{ProjectID: p.ID, Provider: provider, Weight: 1, Active: true}
		if err := tx.CreateKey(t.Context(), k, secret.NewValue(providerKey)); err != nil {
			return err
		}
		text, s, err := token.Mint(tx.Now())
		if err != nil {
			return err
		}
		hash := s.Hash(store.Pepper())
		expires := tx.Now().Add(time.Hour)
		c = client{project: p.ID, token: s.ID, text: text}
		return tx.CreateToken(t.Context(), &token.Token{
			ID: s.ID, ProjectID: p.ID, Active: true, ExpiresAt: &expires, Policy: policy, Hash: hash[:], HashScheme: token.SchemeHMAC,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// roundTripper is an upstream in memory.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
