package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/rs/zerolog"
)

// link is the network between a process and its PostgreSQL, to be mistreated.
type link struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
	dsn   string // through the link
}

// newLink leads to the server of a DSN.
func newLink(t *testing.T, dsn string) *link {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{t: t, proxy: toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", u.Host)}
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.proxy.Stop)
	u.Host = l.proxy.Listen
	l.dsn = u.String()
	return l
}

// toxic is a fault of toxiproxy.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // downstream is what the server says
	Attributes map[string]int `json:"attributes"`
}

func (l *link) poison(faults ...toxic) {
	l.t.Helper()
	for _, fault := range faults {
		text, err := json.Marshal(fault)
		if err != nil {
			l.t.Fatal(err)
		}
		if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
			l.t.Fatal(err)
		}
	}
}

// heal takes all faults away. What they held back is lost or late, as they are.
func (l *link) heal() { l.proxy.Toxics.ResetToxics(context.Background()) }

// swallow has both sides wait for the other in vain.
func (l *link) swallow() {
	l.t.Helper()
	l.poison(toxic{"timeout", "downstream", map[string]int{"timeout": 0}}, toxic{"timeout", "upstream", map[string]int{"timeout": 0}})
}

// openPostgres is a second program at a proxy's database.
func openPostgres(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { db.Close() })
	return db
}

// column reads the only column of a query.
func column(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(bounded(t), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}
