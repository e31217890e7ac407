package storage_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// A project is made with a key, another part of the program hears of it, and the
// request path loads both.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "llm-proxy")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	keys, err := secret.NewKeyring(bytes.Repeat([]byte{1}, secret.KeySize))
	if err != nil {
		log.Fatal(err)
	}

	db, err := storage.New(storage.Config{Driver: "sqlite", DSN: filepath.Join(dir, "llm-proxy.db"), Keyring: keys})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Open(ctx); err != nil {
		log.Fatal(err)
	}
	remove := db.OnChange(func(c token.Change) { fmt.Println("project is at version", c.Version) })
	defer remove()

	p := project.Project{Name: "research", Active: true}
	err = db.Update(ctx, func(tx *storage.Tx) error {
		if err := tx.CreateProject(ctx, &p); err != nil {
			return err
		}
		k := project.Key{ProjectID: p.ID, Provider: "openai", Weight: 1, Active: true}
		return tx.CreateKey(ctx, &k, secret.NewValue("sk-example-key-0000"))
	})
	if err != nil {
		log.Fatal(err)
	}
	snapshot, err := db.LoadProject(ctx, p.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(snapshot.Name, "has a key for", snapshot.Credentials[0].Provider, snapshot.Credentials[0].Secret)
	// Output:
	// project is at version 2
	// research has a key for openai [redacted]
}
