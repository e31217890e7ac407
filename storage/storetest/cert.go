package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// storeCert stores a value that must be accepted.
func (b *bundle) storeCert(name, value string) {
	b.t.Helper()
	if err := b.Certs().Store(b.t.Context(), name, []byte(value)); err != nil {
		b.t.Fatal(err)
	}
}

// wantCert expects a value, or none when want is "".
func (b *bundle) wantCert(name, want string) {
	b.t.Helper()
	got, err := b.Certs().Load(b.t.Context(), name)
	switch {
	case want == "" && errors.Is(err, storage.ErrNotFound):
	case want == "" || err != nil || string(got) != want:
		b.t.Errorf("%s holds %.100q, %v; want %.100q", name, got, err, want)
	}
}

// testCerts runs them all on one database.
func testCerts(t *testing.T, b *bundle) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b *bundle)
	}{
		{"Values", testCertValues},
		{"Names", testCertNames},
		{"Tree", testCertTree},
		{"Concurrency", testCertConcurrency},
		{"Locks", testCertLocks},
		{"LockRace", testCertLockRace},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, &bundle{DB: b.DB, t: t}) })
	}
}

func testCertValues(t *testing.T, b *bundle) {
	certs := b.Certs()
	b.wantCert("a/b.crt", "")
	before := time.Now().Add(-time.Second)
	b.storeCert("a/b.crt", "one")
	b.wantCert("a/b.crt", "one")
	b.storeCert("a/b.crt", "two, which is longer")
	b.wantCert("a/b.crt", "two, which is longer")
	b.storeCert("a/b.key", "other")
	b.wantCert("a/b.crt", "two, which is longer")

	info, err := certs.Stat(t.Context(), "a/b.crt")
	if err != nil || info.Name != "a/b.crt" || info.Directory || info.Size != 20 {
		t.Errorf("Stat: %+v, %v", info, err)
	}
	if info.Modified.Before(before) || info.Modified.After(time.Now().Add(time.Second)) || info.Modified.Location() != time.UTC {
		t.Errorf("modified %s, now is %s", info.Modified, time.Now().UTC())
	}

	b.storeCert("empty", "")
	if value, err := certs.Load(t.Context(), "empty"); err != nil || value == nil || len(value) > 0 {
		t.Errorf("an empty value is %v, %v", value, err)
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	b.storeCert("binary", string(every))
	b.wantCert("binary", string(every))

	large := bytes.Repeat([]byte("0123456789abcdef"), storage.MaxCertValue/16)
	b.storeCert("large", string(large))
	if value, err := certs.Load(t.Context(), "large"); err != nil || !bytes.Equal(value, large) {
		t.Errorf("a large value has %d bytes, %v", len(value), err)
	}
	if err := certs.Store(t.Context(), "large", append(large, 'x')); err == nil || !strings.Contains(err.Error(), "more than 8388608") {
		t.Errorf("a value that is too large: %v", err)
	}
	if info, err := certs.Stat(t.Context(), "large"); err != nil || info.Size != storage.MaxCertValue {
		t.Errorf("after a refused one: %+v, %v", info, err)
	}

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, loadErr := certs.Load(canceled, "empty")
	_, listErr := certs.List(canceled, "", true)
	for what, err := range map[string]error{"Store": certs.Store(canceled, "x", nil), "Delete": certs.Delete(canceled, "a"), "Load": loadErr, "List": listErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s without time: %v", what, err)
		}
	}
	b.wantCert("x", "")
	b.wantCert("a/b.key", "other")
}

func testCertNames(t *testing.T, b *bundle) {
	certs := b.Certs()
	long := strings.Repeat("a/", storage.MaxCertName/2-1)
	for i, name := range []string{"plain", "with space", "dir/wildcard_.example.com/x.crt", "ünï/cödé/日本", "%/_", "a%b", `back\slash`, "'quote\"", "a.b", "a-b/c", "A/B", "a/b", ".hidden", long + "xx"} {
		value := fmt.Sprint("value ", i)
		b.storeCert(name, value)
		b.wantCert(name, value)
		if keys, err := certs.List(t.Context(), path.Dir("/" + name)[1:], false); err != nil || !slices.Contains(keys, name) {
			t.Errorf("%q is not in %q, %v", name, keys, err)
		}
	}
	for _, name := range []string{"/plain", "plain/", "//plain", "./plain", "/plain/."} {
		b.wantCert(name, "value 0")
	}
	for _, name := range []string{"", "/", ".", "..", "a/../b", "../a", "a/..", "a\x00b", "a\xffb", long + "xxx"} {
		_, err := certs.Load(t.Context(), name)
		for what, err := range map[string]error{"Store": certs.Store(t.Context(), name, nil), "Load": err, "Delete": certs.Delete(t.Context(), name)} {
			if err == nil || errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s of %.20q: %v", what, name, err)
			}
		}
	}
	b.wantCert("plain", "value 0")
}

// testCertTree compares with a map, whatever is stored and deleted.
func testCertTree(t *testing.T, b *bundle) {
	certs := b.Certs()
	component := rapid.SampledFrom([]string{"a", "b", "a-", "a0", "a.", "A", "%", "_", "ä", "0"})
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(component, 1, 4).Draw(t, "components"), "/")
	})
	rapid.Check(t, func(rt *rapid.T) {
		names, err := certs.List(t.Context(), "", false)
		if err != nil {
			rt.Fatal(err)
		}
		for _, name := range names {
			if err := certs.Delete(t.Context(), name); err != nil {
				rt.Fatal(err)
			}
		}
		model := make(map[string]bool)
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			name := name.Draw(rt, "name")
			if rapid.IntRange(0, 3).Draw(rt, "delete") > 0 {
				if err := certs.Store(t.Context(), name, nil); err != nil {
					rt.Fatal(err)
				}
				model[name] = true
				continue
			}
			if err := certs.Delete(t.Context(), name); err != nil {
				rt.Fatal(err)
			}
			for other := range model {
				if other == name || strings.HasPrefix(other, name+"/") {
					delete(model, other)
				}
			}
		}
		for _, dir := range []string{"", name.Draw(rt, "dir"), component.Draw(rt, "top")} {
			compareTree(rt, t.Context(), certs, model, dir)
		}
	})
}

// compareTree asks for everything that can be known of dir.
func compareTree(t *rapid.T, ctx context.Context, certs storage.CertStore, model map[string]bool, dir string) {
	var direct, all []string
	for name := range model {
		rest, ok := name, true
		if dir != "" {
			rest, ok = strings.CutPrefix(name, dir+"/")
		}
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		direct = append(direct, path.Join(dir, parts[0]))
		for i := range parts {
			all = append(all, path.Join(dir, path.Join(parts[:i+1]...)))
		}
	}
	exists := model[dir] || len(direct) > 0 || dir == ""
	for recursive, want := range map[bool][]string{false: direct, true: all} {
		slices.Sort(want)
		want = slices.Compact(want)
		got, err := certs.List(ctx, dir, recursive)
		if !exists && errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if !exists || err != nil || !slices.Equal(got, want) {
			t.Fatalf("List(%q, %t) = %q, %v; want %q", dir, recursive, got, err, want)
		}
	}
	info, err := certs.Stat(ctx, dir)
	switch {
	case !exists && errors.Is(err, storage.ErrNotFound):
	case !exists || err != nil || info.Name != dir || info.Directory == model[dir]:
		t.Fatalf("Stat(%q) = %+v, %v", dir, info, err)
	}
}

// testCertConcurrency has writers and readers of one value: nobody sees a mixture.
func testCertConcurrency(t *testing.T, b *bundle) {
	values := []string{strings.Repeat("a", 100_000), strings.Repeat("b", 50_000), strings.Repeat("c", 150_000)}
	b.storeCert("shared", values[0])
	var wg sync.WaitGroup
	for _, value := range values {
		wg.Go(func() {
			for range 5 {
				if err := b.Certs().Store(t.Context(), "shared", []byte(value)); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 10 {
				got, err := b.Certs().Load(t.Context(), "shared")
				if err != nil || !slices.Contains(values, string(got)) {
					t.Errorf("a value of %d bytes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

func testCertLocks(t *testing.T, b *bundle) {
	certs := b.Certs()
	want := func(what string, want bool) func(got bool, err error) {
		t.Helper()
		return func(got bool, err error) {
			t.Helper()
			if err != nil || got != want {
				t.Errorf("%s: %t, %v; want %t", what, got, err, want)
			}
		}
	}
	lock := func(owner string, ttl time.Duration) (bool, error) {
		return certs.TryLock(t.Context(), "x", owner, ttl)
	}
	renew := func(owner string, ttl time.Duration) (bool, error) {
		return certs.RenewLock(t.Context(), "x", owner, ttl)
	}
	unlock := func(owner string) (bool, error) { return certs.Unlock(t.Context(), "x", owner) }

	want("renewing what nobody has", false)(renew("one", time.Hour))
	want("unlocking what nobody has", false)(unlock("one"))
	want("a free lock", true)(lock("one", time.Hour))
	want("again", true)(lock("one", time.Minute))
	want("held by another", false)(lock("two", time.Hour))
	want("another lock", true)(certs.TryLock(t.Context(), "X", "two", time.Hour))
	want("renewing another's", false)(renew("two", time.Hour))
	want("unlocking another's", false)(unlock("two"))
	want("still held", false)(lock("two", time.Hour))
	want("unlocking", true)(unlock("one"))
	want("unlocking twice", false)(unlock("one"))
	want("free again", true)(lock("two", time.Hour))

	want("a lease is not shortened by its owner", true)(lock("two", -time.Hour))
	want("nor by renewing", true)(renew("two", -time.Hour))
	want("so it is held", false)(lock("one", time.Hour))
	want("unlocking", true)(unlock("two"))

	want("a lease that has ended", true)(lock("one", -time.Hour))
	want("is renewed while nobody else has it", true)(renew("one", time.Hour))
	want("and holds", false)(lock("two", time.Hour))
	want("unlocking", true)(unlock("one"))
	want("a holder that died", true)(lock("one", -time.Nanosecond))
	want("is followed by another", true)(lock("two", time.Hour))
	want("and cannot renew", false)(renew("one", time.Hour))
	want("or release", false)(unlock("one"))
	want("or take it back", false)(lock("one", time.Hour))
	want("unlocking", true)(unlock("two"))

	// A short lease ends by itself.
	want("a short lease", true)(lock("one", 50*time.Millisecond))
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for taken := false; !taken; <-tick.C {
		var err error
		if taken, err = lock("two", time.Hour); err != nil || time.Now().After(deadline) {
			t.Fatalf("a short lease did not end: %v", err)
		}
	}

	for _, bad := range [][2]string{{"", "o"}, {"n", ""}, {"a\x00", "o"}, {"n", "\xff"}, {strings.Repeat("a", storage.MaxCertName+1), "o"}} {
		_, lockErr := certs.TryLock(t.Context(), bad[0], bad[1], time.Hour)
		_, renewErr := certs.RenewLock(t.Context(), bad[0], bad[1], time.Hour)
		_, unlockErr := certs.Unlock(t.Context(), bad[0], bad[1])
		if lockErr == nil || renewErr == nil || unlockErr == nil {
			t.Errorf("lock %.10q of %q: %v, %v, %v", bad[0], bad[1], lockErr, renewErr, unlockErr)
		}
	}
}

// testCertLockRace has many owners who want the same lock: one gets it, then the
// next.
func testCertLockRace(t *testing.T, b *bundle) {
	const owners = 8
	for round := range 3 {
		var wg sync.WaitGroup
		var winners atomic.Int32
		for i := range owners {
			wg.Go(func() {
				owner := fmt.Sprint(round, " ", i)
				ttl := -time.Second // ended when the next round comes
				if i%2 == 0 {
					ttl = time.Hour
				}
				got, err := b.Certs().TryLock(t.Context(), "race", owner, ttl)
				if err != nil {
					t.Error(err)
				}
				if got && ttl > 0 {
					winners.Add(1)
				}
			})
		}
		wg.Wait()
		if round == 0 && winners.Load() != 1 || round > 0 && winners.Load() != 0 {
			t.Fatalf("round %d: %d owners have the lock", round, winners.Load())
		}
	}
}
