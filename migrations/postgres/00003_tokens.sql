-- +goose Up
-- hash is one-way, under hash_scheme and the pepper; the token itself is nowhere.
CREATE TABLE tokens (
    id            UUID             NOT NULL PRIMARY KEY,
    project_id    UUID             NOT NULL REFERENCES projects (id),
    name          TEXT COLLATE "C" NOT NULL DEFAULT '' CHECK (length(name) <= 255),
    name_folded   TEXT COLLATE "C" NOT NULL,
    is_active     BOOLEAN          NOT NULL,
    revoked_at    BIGINT,
    revoke_reason TEXT COLLATE "C" NOT NULL DEFAULT '',
    expires_at    BIGINT,
    policy        TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    hash          BYTEA            NOT NULL CHECK (length(hash) > 0),
    hash_scheme   TEXT COLLATE "C" NOT NULL CHECK (length(hash_scheme) > 0),
    version       BIGINT           NOT NULL CHECK (version >= 1),
    created_at    BIGINT           NOT NULL,
    updated_at    BIGINT           NOT NULL
);

CREATE INDEX tokens_created ON tokens (created_at, id);
CREATE INDEX tokens_project ON tokens (project_id, created_at, id);
CREATE INDEX tokens_expires ON tokens (expires_at) WHERE expires_at IS NOT NULL;

-- +goose Down
DROP TABLE tokens;
