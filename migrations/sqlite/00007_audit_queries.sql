-- +goose Up
-- The table is made anew, as SQLite cannot change a CHECK: calls that were
-- understood and refused are failures, and one row may stand for several events.
CREATE TABLE audit_events_new (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 36),
    created_at  INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    action      TEXT    NOT NULL CHECK (length(action) > 0),
    outcome     TEXT    NOT NULL CHECK (outcome IN ('success', 'denied', 'failure')),
    target_type TEXT    NOT NULL,
    target_id   TEXT,
    project_id  TEXT,
    client_ip   TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    user_agent  TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    changes     TEXT    NOT NULL DEFAULT '{}',
    occurrences INTEGER NOT NULL DEFAULT 1 CHECK (occurrences >= 1)
) STRICT;
INSERT INTO audit_events_new (id, created_at, actor, action, outcome, target_type, target_id, project_id,
    client_ip, request_id, method, path, user_agent, reason, changes)
SELECT id, created_at, actor, action, outcome, target_type, target_id, project_id,
    client_ip, request_id, method, path, user_agent, reason, changes FROM audit_events;
DROP TABLE audit_events;
ALTER TABLE audit_events_new RENAME TO audit_events;

CREATE INDEX audit_events_created ON audit_events (created_at, id);
CREATE INDEX audit_events_target ON audit_events (target_id, created_at, id);
CREATE INDEX audit_events_project ON audit_events (project_id, created_at, id);
CREATE INDEX audit_events_action ON audit_events (action, created_at, id);
CREATE INDEX audit_events_client ON audit_events (client_ip, created_at, id);
CREATE INDEX audit_events_request ON audit_events (request_id, created_at, id);

CREATE INDEX tokens_revoked ON tokens (revoked_at) WHERE revoked_at IS NOT NULL;

-- Work that one node does for all, and until when the others leave it to that node.
CREATE TABLE leases (
    name       TEXT    NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    owner      TEXT    NOT NULL CHECK (length(owner) > 0),
    expires_at INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE leases;
DROP INDEX tokens_revoked;

CREATE TABLE audit_events_old (
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
-- The older schema has one word for all that was not done.
INSERT INTO audit_events_old (id, created_at, actor, action, outcome, target_type, target_id, project_id,
    client_ip, request_id, method, path, user_agent, reason, changes)
SELECT id, created_at, actor, action, CASE outcome WHEN 'failure' THEN 'denied' ELSE outcome END, target_type, target_id, project_id,
    client_ip, request_id, method, path, user_agent, reason, changes FROM audit_events;
DROP TABLE audit_events;
ALTER TABLE audit_events_old RENAME TO audit_events;

CREATE INDEX audit_events_created ON audit_events (created_at, id);
CREATE INDEX audit_events_target ON audit_events (target_id, created_at, id);
