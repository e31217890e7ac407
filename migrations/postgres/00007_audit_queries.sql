-- +goose Up
-- Calls that were understood and refused are failures, and one row may stand for
-- several events.
ALTER TABLE audit_events DROP CONSTRAINT audit_events_outcome_check;
ALTER TABLE audit_events ADD CONSTRAINT audit_events_outcome_check CHECK (outcome IN ('success', 'denied', 'failure'));
ALTER TABLE audit_events ADD COLUMN occurrences BIGINT NOT NULL DEFAULT 1 CHECK (occurrences >= 1);

CREATE INDEX audit_events_project ON audit_events (project_id, created_at, id);
CREATE INDEX audit_events_action ON audit_events (action, created_at, id);
CREATE INDEX audit_events_client ON audit_events (client_ip, created_at, id);
CREATE INDEX audit_events_request ON audit_events (request_id, created_at, id);

CREATE INDEX tokens_revoked ON tokens (revoked_at) WHERE revoked_at IS NOT NULL;

-- Work that one node does for all, and until when the others leave it to that node.
CREATE TABLE leases (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    owner      TEXT COLLATE "C" NOT NULL CHECK (length(owner) > 0),
    expires_at BIGINT           NOT NULL
);

-- +goose Down
DROP TABLE leases;
DROP INDEX tokens_revoked;
DROP INDEX audit_events_request;
DROP INDEX audit_events_client;
DROP INDEX audit_events_action;
DROP INDEX audit_events_project;
ALTER TABLE audit_events DROP COLUMN occurrences;

-- The older schema has one word for all that was not done.
UPDATE audit_events SET outcome = 'denied' WHERE outcome = 'failure';
ALTER TABLE audit_events DROP CONSTRAINT audit_events_outcome_check;
ALTER TABLE audit_events ADD CONSTRAINT audit_events_outcome_check CHECK (outcome IN ('success', 'denied'));
