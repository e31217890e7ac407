package adminapi

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// maxYear is the last that RFC 3339 can write.
const maxYear = 9999

const redacted = "[redacted]"

// timeShape is RFC 3339 as written there: package time also takes a comma for
// the point and hours of one digit.
var timeShape = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)

// changes collects the fields that a call changes, for the audit record.
type changes map[string]audit.Change

// set gives *field the value of a request's member, if it has one. null is
// refused: only lists, metadata, limits and expires_at have a meaning for it.
func set[T comparable](ch changes, name string, field *T, o opt[T]) error {
	switch {
	case o.null:
		return invalid(name, "may not be null; leave it out instead")
	case o.set && *field != o.value:
		ch[name] = audit.Change{Before: *field, After: o.value}
		*field = o.value
	}
	return nil
}

// firstOf returns the first error of checks made in the order of the fields.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// required refuses an absent member.
func required[T any](name string, o opt[T]) error {
	if !o.set || o.null {
		return invalid(name, "is required")
	}
	return nil
}

// setName is set for names and labels.
func setName(ch changes, name string, field *string, o opt[string]) error {
	if err := checkText(name, o.value, project.MaxNameBytes); err != nil {
		return err
	}
	if strings.TrimSpace(o.value) != o.value {
		return invalid(name, "remove the white space at its ends")
	}
	return set(ch, name, field, o)
}

// setRange is set for numbers with bounds.
func setRange(ch changes, name string, field *int, o opt[int], lowest, highest int) error {
	if o.set && !o.null && (o.value < lowest || o.value > highest) {
		return invalid(name, "expected a whole number from %d to %d", lowest, highest)
	}
	return set(ch, name, field, o)
}

func checkText(name, s string, limit int) error {
	switch {
	case len(s) > limit:
		return invalid(name, "has %d bytes, at most %d are allowed", len(s), limit)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, isControl):
		return invalid(name, "write it in UTF-8, without control characters")
	}
	return nil
}

// isControl finds what terminals and log viewers act upon: C0, DEL and C1, line
// separators, and the marks that reorder text so that a name looks like another.
func isControl(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029 ||
		r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// checkKey refuses what cannot be a provider key. Its errors never hold the text.
func checkKey(o opt[string]) error {
	const maxKeyBytes = 4096
	s := o.value
	switch {
	case !o.set:
		return nil
	case o.null, s == "":
		return invalid("api_key", "is empty; send the provider's key")
	case strings.Contains(s, "..."), strings.Contains(s, "****"), strings.Contains(s, "…"):
		return invalid("api_key", "this is a masked key as shown to people; send the full key")
	case len(s) > maxKeyBytes:
		return invalid("api_key", "has %d bytes, at most %d are allowed", len(s), maxKeyBytes)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return invalid("api_key", "expected visible ASCII characters only, without spaces or line ends")
	}
	return nil
}

// display is how a stored key is shown to people. It is refused as a new key, so
// that an object that was read cannot be written back as a broken key.
func display(last4 string) string { return "…" + last4 }

// policyFields are the members that set a [project.Policy], null meaning none.
type policyFields struct {
	AllowedModels    opt[[]string]           `json:"allowed_models"`
	AllowedProviders opt[[]string]           `json:"allowed_providers"`
	AllowedEndpoints opt[[]string]           `json:"allowed_endpoints"`
	AllowedIPs       opt[[]string]           `json:"allowed_ips"`
	Metadata         opt[map[string]*string] `json:"metadata"`
	limitFields
}

// apply changes the policy. One that is not touched is not checked either: a row
// from a laxer time must not stand in the way of renaming its project.
func (f *policyFields) apply(ch changes, p *project.Policy) error {
	if !f.AllowedModels.set && !f.AllowedProviders.set && !f.AllowedEndpoints.set && !f.AllowedIPs.set && !f.Metadata.set && !f.given() {
		return nil
	}
	if err := f.limitFields.change(ch, &p.Limits); err != nil {
		return err
	}
	for _, list := range []struct {
		name  string
		field *[]string
		o     opt[[]string]
	}{
		{"allowed_models", &p.AllowedModels, f.AllowedModels},
		{"allowed_providers", &p.AllowedProviders, f.AllowedProviders},
		{"allowed_endpoints", &p.AllowedEndpoints, f.AllowedEndpoints},
		{"allowed_ips", &p.AllowedIPs, f.AllowedIPs},
	} {
		if list.o.set && !slices.Equal(*list.field, list.o.value) {
			ch[list.name] = audit.Change{Before: *list.field, After: list.o.value}
			*list.field = list.o.value
		}
	}
	if f.Metadata.set {
		metadata := make(map[string]string, len(f.Metadata.value))
		for name, value := range f.Metadata.value {
			if value == nil {
				return invalid("metadata."+clip(name, 64), "may not be null; leave it out to remove it")
			}
			metadata[name] = *value
		}
		if !maps.Equal(p.Metadata, metadata) {
			ch["metadata"] = audit.Change{Before: p.Metadata, After: metadata}
			p.Metadata = metadata
		}
	}
	if err := p.Validate(); err != nil {
		return fail(codeInvalidRequest, err.Error())
	}
	return nil
}

// setExpiry gives *field the time that a request names, null meaning never.
func setExpiry(ch changes, field **time.Time, o opt[string], now time.Time) error {
	if !o.set {
		return nil
	}
	var at *time.Time
	if !o.null {
		var t time.Time
		if err := t.UnmarshalText([]byte(o.value)); err != nil || !timeShape.MatchString(o.value) || t.UTC().Year() > maxYear {
			return invalid("expires_at", "expected a time with zone (RFC 3339) such as 2031-12-24T18:00:00Z, or null for never")
		}
		t = t.UTC().Truncate(time.Microsecond) // as it is stored
		if !t.After(now) {
			return invalid("expires_at", "expected a time in the future; to end a token now, DELETE it")
		}
		at = &t
	}
	changeExpiry(ch, field, at)
	return nil
}

func changeExpiry(ch changes, field **time.Time, at *time.Time) {
	if before := *field; before == nil && at == nil || before != nil && at != nil && before.Equal(*at) {
		return
	}
	ch["expires_at"] = audit.Change{Before: timeOrNever(*field), After: timeOrNever(at)}
	*field = at
}

func timeOrNever(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// utc makes a stored time fit to be answered.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
