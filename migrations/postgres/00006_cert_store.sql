-- +goose Up
-- What Caddy keeps for TLS: certificates, their private keys, ACME accounts. The
-- names are paths; every value is an AES-256-GCM envelope bound to its name.
CREATE TABLE cert_store (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    sealed     BYTEA            NOT NULL,
    size       BIGINT           NOT NULL CHECK (size >= 0),
    updated_at BIGINT           NOT NULL
);

-- Who is doing what for all nodes, and until when others leave it to them.
CREATE TABLE cert_locks (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    owner      TEXT COLLATE "C" NOT NULL CHECK (length(owner) > 0),
    expires_at BIGINT           NOT NULL
);

-- +goose Down
DROP TABLE cert_locks;
DROP TABLE cert_store;
