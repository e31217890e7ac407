-- +goose Up
-- What a database knows of itself; none of it is ever copied into another one.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    value TEXT NOT NULL
) STRICT;

-- Tells this database from every other.
INSERT INTO meta (name, value) VALUES ('identity', lower(hex(randomblob(16))));

-- +goose Down
DROP TABLE meta;
