-- +goose Up
-- What a database knows of itself; none of it is ever copied into another one.
CREATE TABLE meta (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    value TEXT COLLATE "C" NOT NULL
);

-- Tells this database from every other.
INSERT INTO meta (name, value) VALUES ('identity', replace(gen_random_uuid()::text, '-', ''));

-- +goose Down
DROP TABLE meta;
