-- +goose Up
-- Times are microseconds since 1970 UTC. name_folded is the name as searches
-- compare it; the program folds case, since databases disagree about it beyond
-- ASCII. Text is ordered by its bytes, whatever the locale of the database.
CREATE TABLE projects (
    id              UUID             NOT NULL PRIMARY KEY,
    name            TEXT COLLATE "C" NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 255),
    name_folded     TEXT COLLATE "C" NOT NULL,
    is_active       BOOLEAN          NOT NULL,
    deactivated_at  BIGINT,
    use_shared_keys BOOLEAN          NOT NULL DEFAULT TRUE,
    policy          TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    version         BIGINT           NOT NULL CHECK (version >= 1),
    created_at      BIGINT           NOT NULL,
    updated_at      BIGINT           NOT NULL
);

CREATE INDEX projects_created ON projects (created_at, id);

-- +goose Down
DROP TABLE projects;
