package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// sharedName is a second site, which two nodes want at the same moment.
const sharedName = "two.localhost"

// sharedDatabase is one that several processes use.
type sharedDatabase struct {
	lines string   // of the Caddyfile, wherever a database is named
	env   []string // what the lines refer to
	files string   // its directory, if it is a file
	open  storage.Config
}

// onEveryDatabase runs a test on each kind of database.
func onEveryDatabase(t *testing.T, test func(t *testing.T, db sharedDatabase)) {
	t.Parallel()
	const key = "encryption_key {env.SHARED_KEY}"
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "shared")
		test(t, newSharedDatabase(t, sharedDatabase{
			lines: "database sqlite {env.SHARED_DATABASE}\n" + key, files: dir,
			open: storage.Config{Driver: "sqlite", DSN: filepath.Join(dir, "llm-proxy.db")},
		}))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, newSharedDatabase(t, sharedDatabase{
			lines: "database postgres {env.SHARED_DATABASE}\n" + key,
			open:  storage.Config{Driver: "postgres", DSN: testdb.Postgres(t)},
		}))
	})
}

// newSharedDatabase gives the database a key.
func newSharedDatabase(t *testing.T, db sharedDatabase) sharedDatabase {
	t.Helper()
	text := secret.NewKey()
	key, err := secret.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	if db.open.Keyring, err = secret.NewKeyring(key); err != nil {
		t.Fatal(err)
	}
	db.env = []string{"SHARED_DATABASE=" + db.open.DSN, "SHARED_KEY=" + text}
	return db
}

// certs opens the store beside the processes.
func (db sharedDatabase) certs(t *testing.T) storage.CertStore {
	t.Helper()
	store, err := storage.New(db.open)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store.Certs()
}

// site keeps its certificates as the storage option says, and everything else in
// the database. more is appended.
func (db sharedDatabase) site(option, more string) site {
	s := site{global: "\tstorage llm_proxy " + option + "\n"}
	s.caddyfile = strings.Replace(s.compose(), s.databaseLines(), db.lines, 1) + more
	return s
}

// secondSite serves sharedName; options go into its block.
func secondSite(options string) string {
	return "https://" + sharedName + ":{https} {\n\tbind 127.0.0.1\n\trespond two\n" + options + "\n}\n"
}

// launch starts a process on the database.
func (db sharedDatabase) launch(t *testing.T, s site) *proxy {
	t.Helper()
	p := prepare(t)
	p.env = append(p.env, db.env...)
	p.write(s)
	p.run()
	return p
}

// awaitNode waits until the process is ready, and trusts the CA that it uses.
func (p *proxy) awaitNode() {
	p.t.Helper()
	eventually(p.t, "the process tells its CA", func() bool {
		select {
		case <-p.exited:
			p.t.Fatalf("the process ended before it was ready: %v\n%s", p.exitErr, p.output.tail(4<<10))
		default:
		}
		status, body := p.callAdmin(http.MethodGet, "/pki/ca/local", "")
		var ca struct {
			Root string `json:"root_certificate"`
		}
		if status != http.StatusOK || json.Unmarshal([]byte(body), &ca) != nil {
			return false
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(ca.Root)) {
			return false
		}
		p.roots = roots
		return true
	})
	p.await()
}

// certificate is the one that the process serves under a name.
func (p *proxy) certificate(name string) *x509.Certificate {
	p.t.Helper()
	var leaf *x509.Certificate
	eventually(p.t, "a certificate for "+name, func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port), &tls.Config{RootCAs: p.roots, ServerName: name, MinVersion: tls.VersionTLS12})
		if err != nil {
			return false
		}
		defer conn.Close()
		leaf = conn.ConnectionState().PeerCertificates[0]
		return true
	})
	return leaf
}

// issued counts the certificates that a process obtained for a name.
func (p *proxy) issued(name string) int {
	n := 0
	for line := range strings.Lines(p.output.String()) {
		if strings.Contains(line, "certificate obtained successfully") && strings.Contains(line, `"`+name+`"`) {
			n++
		}
	}
	return n
}

// TestNodesShareCertificates: what one node obtains all of them serve, the root
// included; of two that want one at the same moment, one obtains it.
func TestNodesShareCertificates(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, db sharedDatabase) {
		first := db.launch(t, db.site("", ""))
		first.awaitNode()
		leaf := first.certificate("localhost")

		var nodes []*proxy
		for range 2 {
			nodes = append(nodes, db.launch(t, db.site("", secondSite(""))))
		}
		var second *x509.Certificate
		obtained := 0
		for _, p := range nodes {
			p.awaitNode()
			if got := p.certificate("localhost"); !got.Equal(leaf) {
				t.Errorf("serves certificate %s, the first node %s", got.SerialNumber, leaf.SerialNumber)
			}
			got := p.certificate(sharedName)
			if second == nil {
				second = got
			}
			if !got.Equal(second) {
				t.Errorf("serves certificate %s, the other node %s", got.SerialNumber, second.SerialNumber)
			}
		}
		for _, p := range nodes {
			obtained += p.issued(sharedName)
			if n := p.issued("localhost"); n > 0 {
				t.Errorf("a certificate that there was has been obtained %d times", n)
			}
		}
		if obtained != 1 || first.issued("localhost") != 1 {
			t.Errorf("%d certificates were obtained for two nodes, %d for the first", obtained, first.issued("localhost"))
		}

		// A node that dies leaves everything to the others, one that ends lets go.
		if err := first.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-first.exited
		nodes[0].stop()
		for _, complaint := range []string{"unable to clean up lock", "database is closed", "is gone"} {
			if nodes[0].output.contains(complaint) {
				t.Errorf("at its end the process said %q", complaint)
			}
		}
		late := db.launch(t, db.site("", secondSite("")))
		late.awaitNode()
		if !late.certificate("localhost").Equal(leaf) || !late.certificate(sharedName).Equal(second) {
			t.Error("a node that comes later serves other certificates")
		}
		checkCertificateFiles(t, first.dir, db.files)
	})
}

// checkCertificateFiles looks for keys and certificates: they are in the database,
// where nobody can read them, and nowhere else.
func checkCertificateFiles(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if bytes.Contains(data, []byte("-----BEGIN")) {
				t.Errorf("%s holds PEM", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertificateStorageCommands: `caddy storage export` sees a database that the
// storage option names itself, and says so of one that it does not.
func TestCertificateStorageCommands(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, db sharedDatabase) {
		p := db.launch(t, db.site("{\n"+db.lines+"\n}", ""))
		p.awaitNode()
		p.certificate("localhost")
		export := func() (out, archive []byte, err error) {
			path := filepath.Join(p.dir, "export.tar")
			if out, err = p.command("storage", "export", "--config", p.caddyfile(), "--output", path).CombinedOutput(); err == nil {
				archive, err = os.ReadFile(path)
			}
			return out, archive, err
		}
		out, archive, err := export()
		if err != nil || !bytes.Contains(archive, []byte("certificates/local/localhost/localhost.key")) || !bytes.Contains(archive, []byte("-----BEGIN")) {
			t.Errorf("the archive has %d bytes, %v: %s", len(archive), err, out)
		}
		p.write(db.site("", ""))
		if out, _, err := export(); err == nil || !strings.Contains(string(out), "the database must be named") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// TestCertificateLockAtExit: a process holds a lock while it tries, in vain, to
// obtain a certificate. If it exits the lock is free; if it dies, before long.
func TestCertificateLockAtExit(t *testing.T) {
	kill := func(p *proxy) {
		if err := p.cmd.Process.Kill(); err != nil {
			p.t.Error(err)
		}
		<-p.exited
	}
	onEveryDatabase(t, func(t *testing.T, db sharedDatabase) {
		certs := db.certs(t)
		for _, end := range []func(p *proxy){(*proxy).stop, kill} {
			p := db.launch(t, db.site("", secondSite("\ttls {\n\t\tissuer acme {\n\t\t\tdir https://127.0.0.1:1/directory\n\t\t}\n\t}")))
			p.awaitNode()
			const lock, me = "issue_cert_" + sharedName, "this test"
			take := func() bool {
				ok, err := certs.TryLock(t.Context(), lock, me, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				return ok
			}
			release := func() {
				if _, err := certs.Unlock(t.Context(), lock, me); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the process has the lock", func() bool {
				if !take() {
					return true
				}
				release()
				return false
			})
			end(p)
			if p.exitErr == nil && !take() {
				t.Error("the process has exited, and its lock is still held")
			}
			eventually(t, "the lock is free", take)
			release()
			if p.output.contains("unable to clean up lock") {
				t.Error("the lock could not be released")
			}
		}
	})
}
