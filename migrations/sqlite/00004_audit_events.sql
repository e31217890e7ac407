-- +goose Up
-- No foreign keys: the record outlives what it is about.
CREATE TABLE audit_events (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    created_at  INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    action      TEXT    NOT NULL CHECK (length(action) > 0),
    outcome     TEXT    NOT NULL CHECK (outcome IN ('success', 'denied')),
    target_type TEXT    NOT NULL,
    target_id   TEXT,
    project_id  TEXT,
    client_ip   TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    user_agent  TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    changes     TEXT    NOT NULL DEFAULT '{}'
) STRICT;

CREATE INDEX audit_events_created ON audit_events (created_at, id);
CREATE INDEX audit_events_target ON audit_events (target_id, created_at, id);

-- +goose Down
DROP TABLE audit_events;
