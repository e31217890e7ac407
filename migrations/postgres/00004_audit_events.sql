-- +goose Up
-- No foreign keys: the record outlives what it is about.
CREATE TABLE audit_events (
    id          UUID             NOT NULL PRIMARY KEY,
    created_at  BIGINT           NOT NULL,
    actor       TEXT COLLATE "C" NOT NULL,
    action      TEXT COLLATE "C" NOT NULL CHECK (length(action) > 0),
    outcome     TEXT COLLATE "C" NOT NULL CHECK (outcome IN ('success', 'denied')),
    target_type TEXT COLLATE "C" NOT NULL,
    target_id   UUID,
    project_id  UUID,
    client_ip   TEXT COLLATE "C" NOT NULL,
    request_id  TEXT COLLATE "C" NOT NULL,
    method      TEXT COLLATE "C" NOT NULL,
    path        TEXT COLLATE "C" NOT NULL,
    user_agent  TEXT COLLATE "C" NOT NULL,
    reason      TEXT COLLATE "C" NOT NULL,
    changes     TEXT COLLATE "C" NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_events_created ON audit_events (created_at, id);
CREATE INDEX audit_events_target ON audit_events (target_id, created_at, id);

-- +goose Down
DROP TABLE audit_events;
