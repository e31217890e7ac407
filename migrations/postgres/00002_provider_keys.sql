-- +goose Up
-- sealed is an AES-256-GCM envelope bound to project_id and id.
CREATE TABLE provider_keys (
    id         UUID             NOT NULL PRIMARY KEY,
    project_id UUID             NOT NULL REFERENCES projects (id),
    provider   TEXT COLLATE "C" NOT NULL CHECK (length(provider) BETWEEN 1 AND 255),
    label      TEXT COLLATE "C" NOT NULL DEFAULT '' CHECK (length(label) <= 255),
    sealed     BYTEA            NOT NULL,
    last4      TEXT COLLATE "C" NOT NULL CHECK (length(last4) <= 4),
    weight     BIGINT           NOT NULL DEFAULT 1 CHECK (weight >= 1),
    priority   BIGINT           NOT NULL DEFAULT 0,
    is_active  BOOLEAN          NOT NULL,
    created_at BIGINT           NOT NULL,
    updated_at BIGINT           NOT NULL
);

CREATE INDEX provider_keys_project ON provider_keys (project_id, provider, priority, id);

-- +goose Down
DROP TABLE provider_keys;
