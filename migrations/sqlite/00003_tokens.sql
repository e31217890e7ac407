-- +goose Up
-- hash is one-way, under hash_scheme and the pepper; the token itself is nowhere.
CREATE TABLE tokens (
    id            TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    project_id    TEXT    NOT NULL REFERENCES projects (id),
    name          TEXT    NOT NULL DEFAULT '' CHECK (length(name) <= 255),
    name_folded   TEXT    NOT NULL,
    is_active     INTEGER NOT NULL CHECK (is_active IN (FALSE, TRUE)),
    revoked_at    INTEGER,
    revoke_reason TEXT    NOT NULL DEFAULT '',
    expires_at    INTEGER,
    policy        TEXT    NOT NULL DEFAULT '{}',
    hash          BLOB    NOT NULL CHECK (length(hash) > 0),
    hash_scheme   TEXT    NOT NULL CHECK (length(hash_scheme) > 0),
    version       INTEGER NOT NULL CHECK (version >= 1),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX tokens_created ON tokens (created_at, id);
CREATE INDEX tokens_project ON tokens (project_id, created_at, id);
CREATE INDEX tokens_expires ON tokens (expires_at) WHERE expires_at IS NOT NULL;

-- +goose Down
DROP TABLE tokens;
