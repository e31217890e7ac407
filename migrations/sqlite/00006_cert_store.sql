-- +goose Up
-- What Caddy keeps for TLS: certificates, their private keys, ACME accounts. The
-- names are paths; every value is an AES-256-GCM envelope bound to its name.
CREATE TABLE cert_store (
    name       TEXT    NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    sealed     BLOB    NOT NULL,
    size       INTEGER NOT NULL CHECK (size >= 0),
    updated_at INTEGER NOT NULL
) STRICT;

-- Who is doing what for all nodes, and until when others leave it to them.
CREATE TABLE cert_locks (
    name       TEXT    NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    owner      TEXT    NOT NULL CHECK (length(owner) > 0),
    expires_at INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE cert_locks;
DROP TABLE cert_store;
