-- +goose Up
-- Times are microseconds since 1970 UTC, ids canonical UUIDs, booleans 0 or 1.
-- name_folded is the name as searches compare it; the program folds case, since
-- databases disagree about it beyond ASCII.
CREATE TABLE projects (
    id              TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    name            TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 255),
    name_folded     TEXT    NOT NULL,
    is_active       INTEGER NOT NULL CHECK (is_active IN (FALSE, TRUE)),
    deactivated_at  INTEGER,
    use_shared_keys INTEGER NOT NULL DEFAULT TRUE CHECK (use_shared_keys IN (FALSE, TRUE)),
    policy          TEXT    NOT NULL DEFAULT '{}',
    version         INTEGER NOT NULL CHECK (version >= 1),
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;

CREATE INDEX projects_created ON projects (created_at, id);

-- +goose Down
DROP TABLE projects;
