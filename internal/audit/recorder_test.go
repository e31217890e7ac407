package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf keeps entries, or fails.
type shelf struct {
	mu      sync.Mutex
	entries []Entry
	err     error
}

func (s *shelf) record(_ context.Context, entries []Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.entries = append(s.entries, entries...)
	}
	return s.err
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *shelf) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// summary counts entries by what tells them apart.
func (s *shelf) summary() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[string]int{}
	for _, e := range s.entries {
		m[fmt.Sprintf("%s %s %s×%d", e.Action, e.ClientIP, e.Reason, e.Occurrences)]++
	}
	return m
}

var errPassing = errors.New("away")

func newRecorder(s *shelf, log *bytes.Buffer) *Recorder {
	return NewRecorder(RecorderConfig{
		Record: s.record, Passing: func(err error) bool { return errors.Is(err, errPassing) },
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
}

func expect(t *testing.T, s *shelf, want map[string]int) {
	t.Helper()
	if got := s.summary(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("recorded\n %v, want\n %v", got, want)
	}
}

func TestLoginsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := &shelf{}, &bytes.Buffer{}
		r := newRecorder(s, log)
		r.Start()
		r.Start()
		for range 1000 {
			r.Login(Entry{ClientIP: "192.0.2.1", RequestID: "r"})
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		expect(t, s, map[string]int{"management.login 192.0.2.1 unauthorized×0": MaxLoginsPerClient})
		for i := range 1000 {
			r.Login(Entry{ClientIP: fmt.Sprint("2001:db8::", i)})
		}
		r.mu.Lock()
		if len(r.logins) > MaxLogins {
			t.Errorf("%d clients are remembered", len(r.logins))
		}
		r.mu.Unlock()
		<-time.After(time.Minute)
		synctest.Wait()
		got := s.summary()
		if got["management.login  further_refusals×1900"] != 1 || s.len() != MaxLogins+1 {
			t.Errorf("%d entries: %v", s.len(), got)
		}
		r.Login(Entry{ClientIP: "192.0.2.1"}) // a new minute
		r.Close()
		if n := s.summary()["management.login 192.0.2.1 unauthorized×0"]; n != MaxLoginsPerClient+1 {
			t.Errorf("%d entries of the first client", n)
		}
		if log.Len() > 0 {
			t.Errorf("logged %s", log)
		}
	})
}

func TestDenialsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := &shelf{}, &bytes.Buffer{}
		r := newRecorder(s, log)
		r.Start()
		token, client := uuid.Must(uuid.NewV7()), netip.MustParseAddr("192.0.2.1")
		for range 50 {
			r.Denied(token, uuid.Nil, "token_expired", client)
		}
		r.Denied(token, uuid.Nil, "ip_not_allowed", client)
		r.Denied(token, uuid.Nil, "token_expired", netip.Addr{})
		<-time.After(30 * time.Second)
		expect(t, s, map[string]int{}) // the minute is not over
		<-time.After(33 * time.Second)
		want := map[string]int{
			"proxy.denied 192.0.2.1 token_expired×50": 1, "proxy.denied 192.0.2.1 ip_not_allowed×1": 1, "proxy.denied  token_expired×1": 1,
		}
		expect(t, s, want)
		for i := range maxDenied + 10 {
			r.Denied(token, uuid.Nil, fmt.Sprint("code_", i), client)
		}
		r.Close() // in the middle of a minute
		if got := s.summary(); got["proxy.denied  further_refusals×10"] != 1 || s.len() != 3+maxDenied+1 {
			t.Errorf("%d entries", len(s.entries))
		}
	})
}

func TestOutageAndOverflow(t *testing.T) {
	s, log := &shelf{err: fmt.Errorf("%w: CAUSE", errPassing)}, &bytes.Buffer{}
	r := newRecorder(s, log)
	for i := range maxQueue + 5 {
		r.Refused(Entry{RequestID: fmt.Sprint(i), Action: "a"})
		if i%1000 == 0 {
			r.Flush(t.Context())
		}
	}
	if n := strings.Count(log.String(), "CAUSE"); n != 1 {
		t.Errorf("the outage was logged %d times", n)
	}
	s.fail(nil)
	r.Flush(t.Context())
	if len(s.entries) != maxQueue || r.Dropped() != 5 || !strings.Contains(log.String(), "lost=5") {
		t.Errorf("%d entries, %d dropped, log %s", len(s.entries), r.Dropped(), log)
	}
	for i, e := range s.entries {
		if e.RequestID != fmt.Sprint(i) || e.Time.IsZero() {
			t.Fatalf("entry %d is %+v", i, e)
		}
	}
	s.fail(errors.New("refused for good"))
	r.Refused(Entry{Action: "a"})
	r.Close()
	if r.Dropped() != 6 || !strings.Contains(log.String(), "refused for good") {
		t.Errorf("%d dropped, log %s", r.Dropped(), log)
	}
}

func TestNilRecorder(t *testing.T) {
	var r *Recorder
	r.Login(Entry{})
	r.Refused(Entry{})
	r.Denied(uuid.Nil, uuid.Nil, "x", netip.Addr{})
	r.Close()
}
