-- +goose Up
-- The installation's own secrets, such as the token pepper, each an AES-256-GCM
-- envelope bound to its name.
CREATE TABLE secrets (
    name   TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    sealed BYTEA            NOT NULL
);

-- +goose Down
DROP TABLE secrets;
