// Package predecessor reads what sofatutor/llm-proxy left: the rows of its database
// and its api_providers.yaml. It knows neither SQL nor where anything goes.
package predecessor

// Rows as the predecessor's database holds them, every value as text. nil is
// NULL, or a column that its schema did not have yet.

// ProjectRow is a row of its projects.
type ProjectRow struct {
	ID            *string
	Name          *string
	APIKey        *string // openai_api_key in older schemas
	IsActive      *string
	DeactivatedAt *string
	CreatedAt     *string
	UpdatedAt     *string
}

// TokenRow is a row of its tokens.
type TokenRow struct {
	ID            *string
	Token         *string // the text, or its SHA-256 in hex
	ProjectID     *string
	ExpiresAt     *string
	IsActive      *string
	DeactivatedAt *string
	RequestCount  *string
	MaxRequests   *string
	CreatedAt     *string
	Metadata      *string // JSON
}

// AuditRow is a row of its audit_events. Its token_id and metadata are left out:
// they may hold hashes of tokens.
type AuditRow struct {
	ID        *string
	Timestamp *string
	Action    *string
	Actor     *string
	ProjectID *string
	RequestID *string
	ClientIP  *string
	Method    *string
	Path      *string
	UserAgent *string
	Outcome   *string
	Reason    *string
}

func text(value *string) string {
	if value == nil {
		return ""
	}
	return *value
}
