package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/predecessor"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
	old "github.com/sofatutor/caddy-llm-proxy/storage/predecessortest"
)

// importing is an import into a database that is open, from one of the predecessor's.
type importing struct {
	db   *storage.DB
	from *old.Database
	key  string // the ENCRYPTION_KEY
	in   Import
	out  buffer
	err  buffer
}

func newImporting(t *testing.T, from *old.Database) *importing {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ours.db")
	i := &importing{db: openStore(t, path), from: from, key: secret.NewKey()}
	opener, err := predecessor.NewOpener(secret.NewValue(i.key))
	if err != nil {
		t.Fatal(err)
	}
	i.in = Import{To: Encryption{Database{Driver: "sqlite", DSN: path}, func() (*secret.Keyring, error) {
		return secret.NewKeyring([]byte(strings.Repeat("\x07", secret.KeySize)))
	}}, From: from.DSN, Opener: opener, Provider: DefaultImportProvider}
	return i
}

// run imports, and returns what is reported.
func (i *importing) run(t *testing.T) (report importReport, said string, err error) {
	t.Helper()
	err = ImportPredecessor(t.Context(), Output{Out: &i.out, Err: &i.err, JSON: true}, i.in)
	if text := i.out.take(); text != "" {
		if decodeErr := json.Unmarshal([]byte(text), &report); decodeErr != nil {
			t.Fatalf("%v in %s", decodeErr, text)
		}
	}
	return report, i.err.take(), err
}

func (i *importing) project(t *testing.T, name, key string) string {
	t.Helper()
	id := uuid.Must(uuid.NewV4()).String()
	column := "api_key"
	i.from.Insert(t, "projects", old.Row{"id": id, "name": name, column: key})
	return id
}

func (i *importing) token(t *testing.T, projectID string, more old.Row) (text string) {
	t.Helper()
	text = old.NewToken()
	row := old.Row{"id": uuid.Must(uuid.NewV4()).String(), "token": text, "project_id": projectID, "request_count": 2}
	for column, value := range more {
		row[column] = value
	}
	i.from.Insert(t, "tokens", row)
	return text
}

func counts(r importReport) string {
	var parts []string
	for _, t := range r.Tables {
		parts = append(parts, fmt.Sprintf("%s %d/%d/%d", t.Table, t.Imported, t.Present, t.Skipped))
	}
	return strings.Join(parts, ", ")
}

// That PostgreSQL's rows are the same is what the tests of storage hold.
func TestImportPredecessor(t *testing.T) {
	t.Parallel()
	from := old.SQLite(t, old.Latest)
	i := newImporting(t, from)
	ctx := t.Context()
	taken := &project.Project{Name: "taken", Active: true}
	if err := i.db.Update(ctx, func(tx *storage.Tx) error { return tx.CreateProject(ctx, taken) }); err != nil {
		t.Fatal(err)
	}
	good := i.project(t, "good", testProviderKey)
	sealed := i.project(t, "sealed", old.Encrypt(t, i.key, testProviderKey))
	lost := i.project(t, "lost", old.Encrypt(t, secret.NewKey(), testProviderKey))
	twin := i.project(t, "taken", testProviderKey)
	from.Insert(t, "projects", old.Row{"id": "not-a-uuid", "name": "odd", "api_key": "x"})
	var texts []string
	for range importBatch + 5 { // more than one transaction
		texts = append(texts, i.token(t, good, nil))
	}
	limited := i.token(t, sealed, old.Row{"max_requests": 5, "metadata": "no JSON"})
	texts = append(texts, limited, i.token(t, lost, nil))
	i.token(t, twin, nil)
	bad := i.token(t, good, old.Row{"token": "sk-CANARY-not-a-token"})
	for n := range 3 {
		from.Insert(t, "audit_events", old.Row{"id": fmt.Sprint(n), "timestamp": "2025-01-02 03:04:05", "action": "token.list", "actor": "management_api", "outcome": "success"})
	}
	from.Insert(t, "audit_events", old.Row{"id": "bad", "timestamp": "2025-01-02 03:04:05", "action": "", "actor": "a", "outcome": "success"})

	n := len(texts)
	want := fmt.Sprintf("projects 3/0/2, provider_keys 2/0/1, tokens %d/0/2, audit_events 3/0/1", n)
	i.in.DryRun = true
	report, said, err := i.run(t)
	expectError(t, err, false, "6 rows were skipped")
	expectText(t, said, "nothing was written")
	if got := counts(report); got != want || !report.DryRun {
		t.Errorf("dry: %s, want %s", got, want)
	}
	if tokens, err := i.db.CountTokens(ctx, storage.TokenFilter{}); tokens != 0 || err != nil {
		t.Errorf("a dry run made %d tokens, %v", tokens, err)
	}

	i.in.DryRun = false
	report, said, err = i.run(t)
	expectError(t, err, false, "6 rows were skipped")
	if got := counts(report); got != want || report.Limited != 1 || report.Requests != int64(2*n) {
		t.Errorf("%s, %d limited, %d requests; want %s", got, report.Limited, report.Requests, want)
	}
	expectText(t, said, "skipped: projects "+twin, "another project of this name exists", "skipped: projects not-a-uuid", "of project "+lost,
		"its project "+twin+" was not imported", "neither a token's text nor its SHA-256", "audit_events bad: action", "metadata is not a JSON object")
	all := fmt.Sprintf("%+v %s", report, said)
	for _, hidden := range append(texts, bad, testProviderKey, "CANARY", i.key) {
		if strings.Contains(all, hidden) {
			t.Errorf("%q is shown", hidden)
		}
	}

	for _, text := range texts {
		s, err := token.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := i.db.LoadToken(ctx, s.RowID(i.db.Pepper()))
		if err != nil || !s.Matches(rec.Token.HashScheme, rec.Token.Hash, i.db.Pepper()) {
			t.Fatalf("an imported token does not match its row: %v", err)
		}
		if left := rec.Token.Policy.MaxRequests; (text == limited) != (left != nil) || left != nil && *left != 3 {
			t.Errorf("an imported token has the limits %+v", rec.Token.Policy.Limits)
		}
	}
	if keys, err := i.db.Keys(ctx, uuid.FromStringOrNil(sealed)); err != nil || len(keys) != 1 || keys[0].Provider != "openai" {
		t.Errorf("keys %+v, %v", keys, err)
	}
	imports := func() int {
		t.Helper()
		entries, err := i.db.AuditEntries(ctx, storage.AuditFilter{Action: "predecessor.import"})
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if imports() != 1 {
		t.Errorf("%d audit entries of the import", imports())
	}

	// Again: only what is new or was mended.
	report, said, err = i.run(t)
	expectError(t, err, false, "6 rows were skipped")
	expectText(t, said, "nothing was new")
	if got, want := counts(report), fmt.Sprintf("projects 0/3/2, provider_keys 0/2/1, tokens 0/%d/2, audit_events 0/3/1", n); got != want || imports() != 1 {
		t.Errorf("again: %s, want %s; %d audit entries", got, want, imports())
	}
	from.Exec(t, `UPDATE projects SET api_key = $1 WHERE id = $2`, old.Encrypt(t, i.key, testProviderKey), lost)
	i.token(t, good, nil)
	report, _, _ = i.run(t)
	if got, want := counts(report), fmt.Sprintf("projects 0/3/2, provider_keys 1/2/0, tokens 1/%d/2, audit_events 0/3/1", n); got != want || imports() != 2 {
		t.Errorf("mended: %s, want %s; %d audit entries", got, want, imports())
	}
}

// The first schema, in which tokens have no id.
func TestImportOfTheFirstSchema(t *testing.T) {
	t.Parallel()
	i := newImporting(t, old.SQLite(t, old.First))
	id := uuid.Must(uuid.NewV4()).String()
	i.from.Insert(t, "projects", old.Row{"id": id, "name": "p", "openai_api_key": testProviderKey})
	text := old.NewToken()
	i.from.Insert(t, "tokens", old.Row{"token": text, "project_id": id})
	i.from.Insert(t, "tokens", old.Row{"token": "sk-wrong", "project_id": id})
	report, said, err := i.run(t)
	expectError(t, err, false, "1 row was skipped")
	expectText(t, said, "tokens number ")
	if got := counts(report); got != "projects 1/0/0, provider_keys 1/0/0, tokens 1/0/1, audit_events 0/0/0" || strings.Contains(said, "sk-wrong") {
		t.Errorf("%s; %s", got, said)
	}
}

func TestImportWithoutTheKey(t *testing.T) {
	t.Parallel()
	i := newImporting(t, old.SQLite(t, old.Latest))
	i.project(t, "p", old.Encrypt(t, i.key, testProviderKey))
	i.in.Opener = nil
	_, said, err := i.run(t)
	expectError(t, err, false, "1 row was skipped")
	expectText(t, said, "ENCRYPTION_KEY")
}

func TestImportText(t *testing.T) {
	t.Parallel()
	i := newImporting(t, old.SQLite(t, old.Latest))
	i.project(t, "p", testProviderKey)
	o := Output{Out: &i.out, Err: &i.err}
	if err := ImportPredecessor(t.Context(), o, i.in); err != nil {
		t.Fatal(err)
	}
	expectText(t, i.out.take(), "TABLE", "IMPORTED  THERE ALREADY  SKIPPED", "projects       1")
	i.in.Caddyfile, i.in.DryRun = "provider x\n", true
	if err := ImportPredecessor(t.Context(), o, i.in); err != nil {
		t.Fatal(err)
	}
	expectText(t, i.err.take(), "WOULD BE IMPORTED", "nothing was new")
	if got := i.out.take(); got != i.in.Caddyfile {
		t.Errorf("standard output is %q", got)
	}
}

func TestImportFailures(t *testing.T) {
	t.Parallel()
	i := newImporting(t, old.SQLite(t, old.Latest))
	i.in.From = filepath.Join(t.TempDir(), "none.db")
	_, _, err := i.run(t)
	expectError(t, err, false, "does not exist")
	i.in.From = i.from.DSN
	i.in.To.DSN = filepath.Join(t.TempDir(), "none.db")
	_, _, err = i.run(t)
	expectError(t, err, false, "the first start makes it")
	if _, err := os.Stat(i.in.To.DSN); err == nil {
		t.Error("the import made a database")
	}
}

func TestConvertProviders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var out, notices buffer
	o := Output{Out: &out, Err: &notices}
	api := "apis: {mistral: {base_url: 'https://api.mistral.ai', allowed_endpoints: [/v1/models], allowed_methods: [GET, OPTIONS]}}\n"
	text, provider, err := ConvertProviders(o, write("p.yaml", "default_api: mistral\n"+api))
	if err != nil || provider != "mistral" {
		t.Fatalf("%s, %v", provider, err)
	}
	expectText(t, text, "provider mistral {", "base_url https://api.mistral.ai/v1")
	expectText(t, notices.take(), "OPTIONS")
	if _, provider, err = ConvertProviders(o, write("d.yaml", api)); err != nil || provider != "openai" {
		t.Errorf("without default_api: %s, %v", provider, err)
	}
	_, _, err = ConvertProviders(o, write("bad.yaml", "apis: []\n"))
	expectError(t, err, false, "bad.yaml")
	_, _, err = ConvertProviders(o, filepath.Join(dir, "none.yaml"))
	expectError(t, err, false, "--providers")

	kept := filepath.Join(dir, "out")
	for range 2 {
		if err := KeepCaddyfile(kept, text); err != nil {
			t.Fatal(err)
		}
	}
	expectError(t, KeepCaddyfile(kept, text+"#"), false, "exists with another content")
	if got, err := os.ReadFile(kept); err != nil || string(got) != text {
		t.Errorf("kept %q, %v", got, err)
	}
	out.take()
	if err := ShowCaddyfile(o, text); err != nil || out.take() != text {
		t.Errorf("shown otherwise, %v", err)
	}
	o.JSON = true
	if err := ShowCaddyfile(o, text); err != nil {
		t.Error(err)
	}
	expectText(t, out.take(), `{"caddyfile":"`)
}

func TestReadPredecessorDSN(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(path, []byte(" postgres://u:p@h/db \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{"a b.db": "a b.db", "@" + path: "postgres://u:p@h/db"} {
		if got, err := ReadPredecessorDSN(spec); err != nil || got != want {
			t.Errorf("%s: %q, %v", spec, got, err)
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadPredecessorDSN("@" + path)
	expectError(t, err, true, "empty")
	_, err = ReadPredecessorDSN("@" + base64.StdEncoding.EncodeToString([]byte(path)))
	expectError(t, err, false, "--database")
}
