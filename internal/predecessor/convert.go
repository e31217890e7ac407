package predecessor

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// MetadataID is the member of a token's metadata that tells its id in the predecessor.
const MetadataID = "predecessor_id"

// Reasons of revocations.
const (
	revokedBefore = "revoked before the import"
	usedUp        = "max_requests used up before the import"
)

// maxKeyBytes is more than any provider's key has.
const maxKeyBytes = 4096

// Converter makes our rows of the predecessor's. Errors say why a row cannot be
// imported, and hold nothing secret.
type Converter struct {
	Opener   *Opener   // nil: there is no key
	Provider string    // that the projects' keys are for
	Pepper   []byte    // of our database
	Now      time.Time // of the import
}

// Project is a project and its key. Without a key, KeyErr may say why it could
// not be read; that of a project that had none is nil.
type Project struct {
	project.Project
	Key    *project.Key
	Secret secret.Value
	KeyErr error
}

// Project converts a project. It may not use shared keys: in the predecessor
// every project paid for itself.
func (c *Converter) Project(row *ProjectRow) (*Project, error) {
	id, err := parseID("id", row.ID)
	if err != nil {
		return nil, err
	}
	p := &Project{Project: project.Project{ID: id, Name: text(row.Name)}}
	if err := checkName(p.Name); err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	if p.Active, err = parseBool("is_active", row.IsActive); err != nil {
		return nil, err
	}
	created, err := optionalTime("created_at", row.CreatedAt)
	if err != nil {
		return nil, err
	}
	updated, err := optionalTime("updated_at", row.UpdatedAt)
	if err != nil {
		return nil, err
	}
	deactivated, err := optionalTime("deactivated_at", row.DeactivatedAt)
	if err != nil {
		return nil, err
	}
	p.CreatedAt = timeOr(created, c.Now)
	p.UpdatedAt = timeOr(updated, p.CreatedAt)
	if !p.Active {
		at := timeOr(deactivated, p.UpdatedAt)
		p.DeactivatedAt = &at
	}
	if stored := text(row.APIKey); stored != "" {
		p.Secret, p.KeyErr = c.Opener.open(stored)
		if p.KeyErr == nil {
			p.KeyErr = checkKey(p.Secret)
		}
		if p.KeyErr != nil {
			p.Secret = secret.Value{}
			return p, nil
		}
		p.Key = &project.Key{
			ID: uuid.NewV5(id, "api_key of the predecessor"), ProjectID: id, Provider: c.Provider, Label: "imported",
			Weight: 1, Active: true, CreatedAt: p.CreatedAt,
		}
	}
	return p, nil
}

// Token is a token and what it was used for.
type Token struct {
	token.Token
	Requests int64    // that the predecessor counted
	Limited  bool     // had a maximum of requests, which is not used up
	Notes    []string // what was left behind, for people
}

// Token converts a token.
func (c *Converter) Token(row *TokenRow) (*Token, error) {
	s, err := token.ParseLegacy(text(row.Token))
	if err != nil {
		return nil, errors.New("token: it is neither a token's text nor its SHA-256")
	}
	hash := s.Hash(c.Pepper)
	t := &Token{Token: token.Token{ID: s.RowID(c.Pepper), Hash: hash[:], HashScheme: s.Scheme()}}
	if t.ProjectID, err = parseID("project_id", row.ProjectID); err != nil {
		return nil, err
	}
	if t.Active, err = parseBool("is_active", row.IsActive); err != nil {
		return nil, err
	}
	if t.ExpiresAt, err = optionalTime("expires_at", row.ExpiresAt); err != nil {
		return nil, err
	}
	created, err := optionalTime("created_at", row.CreatedAt)
	if err != nil {
		return nil, err
	}
	revoked, err := optionalTime("deactivated_at", row.DeactivatedAt)
	if err != nil {
		return nil, err
	}
	t.CreatedAt = timeOr(created, c.Now)
	if !t.Active {
		c.revoke(t, revoked, revokedBefore)
	}
	if err := c.limits(t, row); err != nil {
		return nil, err
	}
	t.Policy.Metadata = metadata(t, row)
	return t, nil
}

func (c *Converter) revoke(t *Token, at *time.Time, reason string) {
	when := timeOr(at, c.Now)
	t.Active, t.RevokedAt, t.RevokeReason = false, &when, reason
}

// limits takes over what is left of a lifetime's requests, also of tokens that are
// revoked, since that can be undone. A token that has none left is revoked.
func (c *Converter) limits(t *Token, row *TokenRow) (err error) {
	if t.Requests, err = parseCount("request_count", row.RequestCount); err != nil {
		return err
	}
	most, err := parseCount("max_requests", row.MaxRequests)
	switch {
	case err != nil:
		return err
	case most <= 0: // unlimited
		return nil
	case t.Requests >= most && t.Active:
		c.revoke(t, nil, usedUp)
	}
	t.Limited = t.Active
	t.Policy.MaxRequests = new(min(max(most-max(t.Requests, 0), 0), project.MaxLimit))
	return nil
}

// metadata is what the token had of it, with our own member. What our rules
// refuse is left out: it restricts nothing.
func metadata(t *Token, row *TokenRow) map[string]string {
	own := make(map[string]string)
	if id, err := parseID("id", row.ID); err == nil {
		own[MetadataID] = id.String()
	}
	if text(row.Metadata) == "" {
		return own
	}
	var given map[string]any
	if err := json.Unmarshal([]byte(*row.Metadata), &given); err != nil {
		t.Notes = append(t.Notes, "metadata is not a JSON object and was left out")
		return own
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ours := own[name]; ours || given[name] == nil {
			continue
		}
		value, isText := given[name].(string)
		if !isText {
			encoded, err := json.Marshal(given[name])
			if err != nil {
				continue
			}
			value = string(encoded)
		}
		own[name] = value
		if policy := (project.Policy{Metadata: own}); policy.Validate() != nil || strings.ContainsRune(value, 0) {
			delete(own, name)
			t.Notes = append(t.Notes, fmt.Sprintf("metadata %q was left out", clip(name, 64)))
		}
	}
	return own
}

// auditNamespace makes ids of what had none that we could keep.
var auditNamespace = uuid.NewV5(uuid.NamespaceURL, "https://github.com/sofatutor/llm-proxy#audit_events")

// Audit converts an audit event.
func (c *Converter) Audit(row *AuditRow) (*audit.Entry, error) {
	if text(row.ID) == "" {
		return nil, errors.New("id: it is empty")
	}
	id, err := parseID("id", row.ID)
	if err != nil {
		id = uuid.NewV5(auditNamespace, *row.ID)
	}
	at, err := optionalTime("timestamp", row.Timestamp)
	switch {
	case err != nil:
		return nil, err
	case at == nil:
		return nil, errors.New("timestamp: it is empty")
	case text(row.Action) == "":
		return nil, errors.New("action: it is empty")
	}
	e := &audit.Entry{
		ID: id, Time: *at, Action: field(row.Action), Actor: field(row.Actor), ClientIP: field(row.ClientIP),
		RequestID: field(row.RequestID), Method: field(row.Method), Path: field(row.Path), UserAgent: field(row.UserAgent),
		Reason: field(row.Reason), Occurrences: 1,
	}
	switch text(row.Outcome) {
	case "success":
		e.Outcome = audit.OutcomeSuccess
	case "denied":
		e.Outcome = audit.OutcomeDenied
	case "failure", "error":
		e.Outcome = audit.OutcomeFailure
	default:
		return nil, errors.New("outcome: expected success, failure, denied or error")
	}
	if project, err := parseID("project_id", row.ProjectID); err == nil {
		e.ProjectID = project
	}
	switch kind, _, _ := strings.Cut(e.Action, "."); kind {
	case "project":
		e.TargetType, e.TargetID = audit.TargetProject, e.ProjectID
	case "token":
		e.TargetType = audit.TargetToken // which one was not recorded
	}
	return e, nil
}

// Older versions had tokens in paths, and hashes of tokens where their ids belong.
var (
	tokenPattern = regexp.MustCompile(`sk-[A-Za-z0-9_-]{16,}`)
	hashPattern  = regexp.MustCompile(`(?i)[0-9a-f]{64,}`)
)

// maxField is how much of a text of an audit event is kept, in bytes.
const maxField = 1024

// field is a text of an audit event, less what may be a secret.
func field(value *string) string {
	s := text(value)
	s = tokenPattern.ReplaceAllString(s, "[redacted]")
	s = hashPattern.ReplaceAllString(s, "[redacted]")
	return clip(s, maxField)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func timeOr(t *time.Time, otherwise time.Time) time.Time {
	if t == nil {
		return otherwise
	}
	return *t
}

// checkName refuses what the management API does.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case len(name) > project.MaxNameBytes:
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(name), project.MaxNameBytes)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, misleads):
		return errors.New("it holds control characters or is not UTF-8")
	}
	return nil
}

// misleads finds what terminals and log viewers act upon.
func misleads(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// checkKey refuses what cannot be a provider's key, as the management API does.
func checkKey(key secret.Value) error {
	s := key.Reveal()
	switch {
	case s == "":
		return errors.New("it is empty")
	case len(s) > maxKeyBytes:
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(s), maxKeyBytes)
	case strings.Contains(s, "..."), strings.Contains(s, "****"):
		return errors.New("it is a masked key as shown to people")
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("it holds spaces or characters beyond ASCII")
	}
	return nil
}
