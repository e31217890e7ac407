-- +goose Up
-- The installation's own secrets, such as the token pepper, each an AES-256-GCM
-- envelope bound to its name.
CREATE TABLE secrets (
    name   TEXT NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    sealed BLOB NOT NULL
) STRICT;

-- +goose Down
DROP TABLE secrets;
