package predecessor

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const (
	testProject = "6f1c1f0e-8a52-4a55-9a6b-0d3e7c1f2b3a"
	testToken   = "sk-AZRu8SoAeryN7wEjRWeJqw"
	testID      = "b7a3c2d1-0e4f-4a6b-8c9d-1e2f3a4b5c6d"
)

var (
	testNow    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testPepper = bytes.Repeat([]byte{7}, token.PepperSize)
	testKey    = bytes.Repeat([]byte{5}, 32)
)

func ptr(s string) *string { return &s }

func converter(t testing.TB) *Converter {
	t.Helper()
	o, err := NewOpener(secret.NewValue(base64.StdEncoding.EncodeToString(testKey)))
	if err != nil {
		t.Fatal(err)
	}
	return &Converter{Opener: o, Provider: "openai", Pepper: testPepper, Now: testNow}
}

// seal encrypts as the predecessor does.
func seal(t testing.TB, key []byte, plain string) string {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := bytes.Repeat([]byte{3}, aead.NonceSize())
	return "enc:v1:" + base64.StdEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(plain), nil))
}

func projectRow() *ProjectRow {
	return &ProjectRow{ID: ptr(testProject), Name: ptr("Search"), APIKey: ptr("sk-provider-1234567890"), IsActive: ptr("1"),
		CreatedAt: ptr("2025-01-02 03:04:05"), UpdatedAt: ptr("2025-02-03 04:05:06+01:00")}
}

func TestProject(t *testing.T) {
	p, err := converter(t).Project(projectRow())
	if err != nil {
		t.Fatal(err)
	}
	if p.ID.String() != testProject || p.Name != "Search" || !p.Active || p.DeactivatedAt != nil || p.UseSharedKeys ||
		!p.CreatedAt.Equal(time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)) || !p.UpdatedAt.Equal(time.Date(2025, 2, 3, 3, 5, 6, 0, time.UTC)) {
		t.Errorf("%+v", p.Project)
	}
	if p.Key == nil || p.Key.ProjectID != p.ID || p.Key.Provider != "openai" || !p.Key.Active || p.Key.Weight != 1 || p.Secret.Reveal() != "sk-provider-1234567890" {
		t.Errorf("key %+v", p.Key)
	}
	again, err := converter(t).Project(projectRow())
	if err != nil || again.Key.ID != p.Key.ID {
		t.Errorf("another id for the same key: %v, %v", again.Key, err)
	}

	off := projectRow()
	off.IsActive, off.APIKey = ptr("false"), nil
	if p, err := converter(t).Project(off); err != nil || p.Active || !p.DeactivatedAt.Equal(p.UpdatedAt) || p.Key != nil || p.KeyErr != nil {
		t.Errorf("inactive: %+v, %v", p, err)
	}
	off.DeactivatedAt = ptr("2025-02-01T00:00:00Z")
	if p, err := converter(t).Project(off); err != nil || !p.DeactivatedAt.Equal(time.Date(2025, 2, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("inactive since: %+v, %v", p, err)
	}
}

func TestProjectKeys(t *testing.T) {
	damaged := seal(t, testKey, "sk-provider-1")
	for name, tc := range map[string]struct {
		stored, want string // the key, or a part of the error
		noOpener     bool
	}{
		"plain":          {stored: "sk-provider-1", want: "sk-provider-1"},
		"sealed":         {stored: seal(t, testKey, "sk-provider-2"), want: "sk-provider-2"},
		"another key":    {stored: seal(t, bytes.Repeat([]byte{6}, 32), "sk-provider-3"), want: "!does not decrypt"},
		"no key":         {stored: seal(t, testKey, "sk-provider-4"), want: "!ENCRYPTION_KEY", noOpener: true},
		"plain, no key":  {stored: "sk-provider-5", want: "sk-provider-5", noOpener: true},
		"damaged":        {stored: damaged[:len(damaged)-4] + "AAAA", want: "!does not decrypt"},
		"cut":            {stored: "enc:v1:AAAA", want: "!does not decrypt"},
		"not base64":     {stored: "enc:v1:%%%", want: "!does not decrypt"},
		"sealed nothing": {stored: seal(t, testKey, ""), want: "!is empty"},
		"masked":         {stored: "sk-pr...1234", want: "!masked"},
		"spaces":         {stored: "sk provider", want: "!spaces"},
		"long":           {stored: strings.Repeat("x", 4097), want: "!4097 bytes"},
	} {
		c := converter(t)
		if tc.noOpener {
			c.Opener = nil
		}
		row := projectRow()
		row.APIKey = ptr(tc.stored)
		p, err := c.Project(row)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if words, fails := strings.CutPrefix(tc.want, "!"); fails {
			if p.KeyErr == nil || !strings.Contains(p.KeyErr.Error(), words) || p.Key != nil || !p.Secret.IsZero() {
				t.Errorf("%s: key %v, error %v; want %q", name, p.Key, p.KeyErr, words)
			} else if strings.Contains(p.KeyErr.Error(), "provider") {
				t.Errorf("%s: the error repeats the key: %v", name, p.KeyErr)
			}
		} else if p.KeyErr != nil || p.Secret.Reveal() != tc.want {
			t.Errorf("%s: %q, %v", name, p.Secret.Reveal(), p.KeyErr)
		}
	}
}

func TestProjectsThatCannotBeImported(t *testing.T) {
	for words, change := range map[string]func(*ProjectRow){
		"id: it is not a UUID":  func(r *ProjectRow) { r.ID = ptr("project-1") },
		"name: it is empty":     func(r *ProjectRow) { r.Name = nil },
		"name: it has 256":      func(r *ProjectRow) { r.Name = ptr(strings.Repeat("x", 256)) },
		"name: it holds":        func(r *ProjectRow) { r.Name = ptr("a\x00b") },
		"is_active":             func(r *ProjectRow) { r.IsActive = nil },
		"created_at":            func(r *ProjectRow) { r.CreatedAt = ptr("x") },
		"updated_at":            func(r *ProjectRow) { r.UpdatedAt = ptr("x") },
		"deactivated_at: it is": func(r *ProjectRow) { r.DeactivatedAt = ptr("x") },
	} {
		row := projectRow()
		change(row)
		if p, err := converter(t).Project(row); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, %v; want %q", p, err, words)
		}
	}
}

func tokenRow() *TokenRow {
	return &TokenRow{ID: ptr(testID), Token: ptr(testToken), ProjectID: ptr(testProject), IsActive: ptr("1"),
		ExpiresAt: ptr("2030-01-01 02:00:00+02:00"), RequestCount: ptr("7"), CreatedAt: ptr("2025-01-02 03:04:05")}
}

func TestToken(t *testing.T) {
	sum := sha256.Sum256([]byte(testToken))
	hashed := tokenRow()
	hashed.Token = ptr(hex.EncodeToString(sum[:]))
	sent, err := token.Parse(testToken)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]*TokenRow{"plain": tokenRow(), "hashed": hashed} {
		got, err := converter(t).Token(row)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != sent.RowID(testPepper) || !sent.Matches(got.HashScheme, got.Hash, testPepper) {
			t.Errorf("%s: the token that clients send does not match its row", name)
		}
		if !got.Active || got.RevokedAt != nil || !got.ExpiresAt.Equal(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)) || got.Requests != 7 || got.Limited ||
			got.ProjectID.String() != testProject || fmt.Sprint(got.Policy.Metadata) != "map[predecessor_id:"+testID+"]" {
			t.Errorf("%s: %+v", name, got)
		}
		if text := fmt.Sprintf("%+v", got); strings.Contains(text, testToken) || strings.Contains(text, *hashed.Token) {
			t.Errorf("%s: the row holds the token: %s", name, text)
		}
	}
}

func TestTokenStates(t *testing.T) {
	for name, tc := range map[string]struct {
		change   func(*TokenRow)
		active   bool
		reason   string
		revoked  time.Time
		limited  bool
		left     any // of max_requests; nil: no limit
		metadata string
	}{
		"inactive":          {change: func(r *TokenRow) { r.IsActive = ptr("0") }, reason: revokedBefore, revoked: testNow},
		"inactive since":    {change: func(r *TokenRow) { r.IsActive, r.DeactivatedAt = ptr("0"), ptr("2025-05-05") }, reason: revokedBefore, revoked: time.Date(2025, 5, 5, 0, 0, 0, 0, time.UTC)},
		"unlimited":         {change: func(r *TokenRow) { r.MaxRequests = ptr("0") }, active: true},
		"limited":           {change: func(r *TokenRow) { r.MaxRequests = ptr("10") }, active: true, limited: true, left: int64(3)},
		"limited, unused":   {change: func(r *TokenRow) { r.MaxRequests, r.RequestCount = ptr("10"), nil }, active: true, limited: true, left: int64(10)},
		"limited, inactive": {change: func(r *TokenRow) { r.MaxRequests, r.IsActive = ptr("10"), ptr("0") }, reason: revokedBefore, revoked: testNow, left: int64(3)},
		"odd count":         {change: func(r *TokenRow) { r.MaxRequests, r.RequestCount = ptr("10"), ptr("-5") }, active: true, limited: true, left: int64(10)},
		"limited in name":   {change: func(r *TokenRow) { r.MaxRequests = ptr("9223372036854775807") }, active: true, limited: true, left: int64(project.MaxLimit)},
		"below zero":        {change: func(r *TokenRow) { r.MaxRequests = ptr("-1") }, active: true},
		"used up":           {change: func(r *TokenRow) { r.MaxRequests = ptr("7") }, reason: usedUp, revoked: testNow, left: int64(0)},
		"more than used up": {change: func(r *TokenRow) { r.MaxRequests = ptr("3") }, reason: usedUp, revoked: testNow, left: int64(0)},
		"used up, inactive": {change: func(r *TokenRow) { r.MaxRequests, r.IsActive = ptr("7"), ptr("0") }, reason: revokedBefore, revoked: testNow, left: int64(0)},
		"metadata":          {change: func(r *TokenRow) { r.Metadata = ptr(`{"team":"a","n":1,"predecessor_id":"x","none":null}`) }, active: true, metadata: " n:1 team:a"},
		"bad metadata":      {change: func(r *TokenRow) { r.Metadata = ptr(`[1]`) }, active: true},
		"long metadata":     {change: func(r *TokenRow) { r.Metadata = ptr(`{"a":"` + strings.Repeat("x", 2000) + `","b":"c"}`) }, active: true, metadata: " b:c"},
		"never expires":     {change: func(r *TokenRow) { r.ExpiresAt = nil }, active: true},
	} {
		row := tokenRow()
		tc.change(row)
		got, err := converter(t).Token(row)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Active != tc.active || got.RevokeReason != tc.reason || got.Limited != tc.limited || (got.RevokedAt == nil) != tc.active || got.RevokedAt != nil && !got.RevokedAt.Equal(tc.revoked) {
			t.Errorf("%s: %+v", name, got)
		}
		var left any
		if n := got.Policy.MaxRequests; n != nil {
			left = *n
		}
		if left != tc.left {
			t.Errorf("%s: max_requests %v, want %v", name, left, tc.left)
		}
		if err := got.Policy.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		members := fmt.Sprint(got.Policy.Metadata)
		for _, want := range strings.Fields(tc.metadata + " predecessor_id:" + testID) {
			if !strings.Contains(members, want) {
				t.Errorf("%s: metadata %s", name, members)
			}
		}
		if n := len(strings.Fields(tc.metadata)) + 1; len(got.Policy.Metadata) != n {
			t.Errorf("%s: %d members, want %d: %s", name, len(got.Policy.Metadata), n, members)
		}
		if (row.ExpiresAt == nil) != (got.ExpiresAt == nil) {
			t.Errorf("%s: expires %v", name, got.ExpiresAt)
		}
		if bad := strings.Contains(name, "bad ") || strings.Contains(name, "long "); bad != (len(got.Notes) > 0) {
			t.Errorf("%s: notes %q", name, got.Notes)
		}
	}
}

func TestTokensThatCannotBeImported(t *testing.T) {
	for words, change := range map[string]func(*TokenRow){
		"token: it is neither": func(r *TokenRow) { r.Token = ptr("sk-short") },
		"token: it is":         func(r *TokenRow) { r.Token = nil },
		"project_id":           func(r *TokenRow) { r.ProjectID = nil },
		"is_active":            func(r *TokenRow) { r.IsActive = ptr("maybe") },
		"expires_at":           func(r *TokenRow) { r.ExpiresAt = ptr("infinity") },
		"max_requests":         func(r *TokenRow) { r.MaxRequests = ptr("many") },
		"request_count":        func(r *TokenRow) { r.RequestCount = ptr("1.5") },
		"created_at":           func(r *TokenRow) { r.CreatedAt = ptr("") },
		"deactivated_at":       func(r *TokenRow) { r.DeactivatedAt = ptr("x") },
	} {
		row := tokenRow()
		change(row)
		got, err := converter(t).Token(row)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, %v; want %q", got, err, words)
		}
		if err != nil && row.Token != nil && strings.Contains(err.Error(), *row.Token) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
}

func auditRow() *AuditRow {
	return &AuditRow{ID: ptr(testID), Timestamp: ptr("2025-01-02T03:04:05Z"), Action: ptr("token.create"), Actor: ptr("management_api"),
		ProjectID: ptr(testProject), RequestID: ptr("r-1"), ClientIP: ptr("192.0.2.1"), Method: ptr("POST"), Path: ptr("/manage/tokens"),
		UserAgent: ptr("curl/8"), Outcome: ptr("success")}
}

func TestAudit(t *testing.T) {
	e, err := converter(t).Audit(auditRow())
	if err != nil {
		t.Fatal(err)
	}
	want := audit.Entry{ID: uuid.FromStringOrNil(testID), Time: time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC), Actor: "management_api", Action: "token.create",
		Outcome: "success", TargetType: "token", ProjectID: uuid.FromStringOrNil(testProject), ClientIP: "192.0.2.1", RequestID: "r-1",
		Method: "POST", Path: "/manage/tokens", UserAgent: "curl/8", Occurrences: 1}
	if fmt.Sprintf("%+v", *e) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v\nwant %+v", *e, want)
	}
	for from, to := range map[string]string{"success": "success", "denied": "denied", "failure": "failure", "error": "failure"} {
		row := auditRow()
		row.Outcome, row.Action = ptr(from), ptr("project.update")
		if e, err := converter(t).Audit(row); err != nil || e.Outcome != to || e.TargetID != e.ProjectID || e.TargetType != "project" {
			t.Errorf("%s: %+v, %v", from, e, err)
		}
	}
	odd := auditRow()
	odd.ID, odd.ProjectID, odd.Path = ptr("17"), ptr("none"), ptr("/manage/tokens/"+testToken)
	odd.Reason = ptr("no token " + strings.Repeat("ab", 32) + strings.Repeat("é", 1000))
	e, err = converter(t).Audit(odd)
	if err != nil || e.ID.IsNil() || !e.ProjectID.IsNil() || e.Path != "/manage/tokens/[redacted]" || !strings.HasPrefix(e.Reason, "no token [redacted]é") || len(e.Reason) > maxField {
		t.Errorf("%+v, %v", e, err)
	}
	if again, err := converter(t).Audit(odd); err != nil || again.ID != e.ID {
		t.Errorf("another id for the same event: %v, %v", again, err)
	}
	for words, change := range map[string]func(*AuditRow){
		"id":        func(r *AuditRow) { r.ID = nil },
		"timestamp": func(r *AuditRow) { r.Timestamp = nil },
		"not a tim": func(r *AuditRow) { r.Timestamp = ptr("x") },
		"action":    func(r *AuditRow) { r.Action = ptr("") },
		"outcome":   func(r *AuditRow) { r.Outcome = ptr("maybe") },
	} {
		row := auditRow()
		change(row)
		if e, err := converter(t).Audit(row); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, %v; want %q", e, err, words)
		}
	}
}

func TestNewOpener(t *testing.T) {
	for _, text := range []string{"", "x", base64.StdEncoding.EncodeToString(make([]byte, 31))} {
		if _, err := NewOpener(secret.NewValue(text)); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add("enc:v1:AAAA")
	f.Add("enc:v1:")
	f.Add("sk-plain")
	c := converter(f)
	f.Add(seal(f, testKey, "sk-provider"))
	f.Fuzz(func(t *testing.T, stored string) {
		value, err := c.Opener.open(stored)
		if sealed := strings.HasPrefix(stored, "enc:v1:"); !sealed && (err != nil || value.Reveal() != stored) {
			t.Fatalf("%q is %q, %v", stored, value.Reveal(), err)
		} else if sealed && err != nil && !value.IsZero() {
			t.Fatalf("%q gave something with %v", stored, err)
		}
	})
}
