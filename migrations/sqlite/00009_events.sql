-- +goose Up
-- One row for each request, in the order in which they were recorded. Rows come by
-- the thousand, so the table has no other index than that of ids: what requests are
-- searched by is in event_terms, which the roll-up fills, many rows at a time and sorted.
CREATE TABLE events (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE CHECK (length(id) = 36),
    created_at INTEGER NOT NULL,
    project_id TEXT,
    token_id   TEXT,
    provider   TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    status     INTEGER NOT NULL,
    outcome    TEXT    NOT NULL,
    payload    TEXT    NOT NULL
) STRICT;

-- Terms are 't:' with a token's id, 'p:' with a project's, 'm:' with a model, and 's:'
-- with a status that is an error.
CREATE TABLE event_terms (
    term TEXT NOT NULL,
    id   TEXT NOT NULL,
    PRIMARY KEY (term, id)
) STRICT, WITHOUT ROWID;

-- Who reads the events, and up to which one. lost counts those that were deleted unread.
CREATE TABLE event_cursors (
    name       TEXT    NOT NULL PRIMARY KEY CHECK (length(name) > 0),
    position   INTEGER NOT NULL CHECK (position >= 0),
    lost       INTEGER NOT NULL DEFAULT 0,
    updated_at INTEGER NOT NULL
) STRICT;

-- Events that a sink does not take.
CREATE TABLE event_dead (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sink       TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    payload    TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    requeued   INTEGER NOT NULL DEFAULT FALSE CHECK (requeued IN (FALSE, TRUE)),
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX event_dead_sink ON event_dead (sink, requeued, id);

-- Sums of events. A request without project or token has the zero id.
CREATE TABLE usage_hourly (
    hour               INTEGER NOT NULL,
    project_id         TEXT    NOT NULL,
    token_id           TEXT    NOT NULL,
    provider           TEXT    NOT NULL,
    model              TEXT    NOT NULL,
    end_user           TEXT    NOT NULL,
    requests           INTEGER NOT NULL,
    errors             INTEGER NOT NULL,
    cache_hits         INTEGER NOT NULL,
    input_tokens       INTEGER NOT NULL,
    cached_tokens      INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    cost_nano_usd      INTEGER NOT NULL,
    unpriced           INTEGER NOT NULL,
    estimated          INTEGER NOT NULL,
    PRIMARY KEY (hour, project_id, token_id, provider, model, end_user)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE usage_hourly;
DROP TABLE event_dead;
DROP TABLE event_cursors;
DROP TABLE event_terms;
DROP TABLE events;
