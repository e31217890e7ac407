-- +goose Up
-- sealed is an AES-256-GCM envelope bound to project_id and id.
CREATE TABLE provider_keys (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    project_id TEXT    NOT NULL REFERENCES projects (id),
    provider   TEXT    NOT NULL CHECK (length(provider) BETWEEN 1 AND 255),
    label      TEXT    NOT NULL DEFAULT '' CHECK (length(label) <= 255),
    sealed     BLOB    NOT NULL,
    last4      TEXT    NOT NULL CHECK (length(last4) <= 4),
    weight     INTEGER NOT NULL DEFAULT 1 CHECK (weight >= 1),
    priority   INTEGER NOT NULL DEFAULT 0,
    is_active  INTEGER NOT NULL CHECK (is_active IN (FALSE, TRUE)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX provider_keys_project ON provider_keys (project_id, provider, priority, id);

-- +goose Down
DROP TABLE provider_keys;
