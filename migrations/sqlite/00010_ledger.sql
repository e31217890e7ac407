-- +goose Up
-- What a token or project may use within one period, and has. Amounts are requests or
-- nanodollars. forfeited is what was left of the leases of processes that are gone: it
-- may have been spent. No lease is granted beyond limit_amount, but a limit may be
-- lowered, and a provider bill more than it should.
CREATE TABLE ledger (
    scope        TEXT    NOT NULL CHECK (scope IN ('token', 'project')),
    scope_id     TEXT    NOT NULL CHECK (length(scope_id) = 36),
    unit         TEXT    NOT NULL CHECK (unit IN ('requests', 'nano_usd')),
    period       TEXT    NOT NULL CHECK (period IN ('total', 'day', 'week', 'month')),
    period_start INTEGER NOT NULL,
    limit_amount INTEGER NOT NULL CHECK (limit_amount >= 0),
    spent        INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    forfeited    INTEGER NOT NULL DEFAULT 0 CHECK (forfeited >= 0),
    leased       INTEGER NOT NULL DEFAULT 0 CHECK (leased >= 0),
    wanted_at    INTEGER NOT NULL DEFAULT 0,
    alerted      INTEGER NOT NULL DEFAULT 0,
    version      INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (scope, scope_id, unit, period, period_start)
) STRICT, WITHOUT ROWID;

-- What each process has of it: granted - used - returned is its part of leased.
CREATE TABLE ledger_leases (
    scope        TEXT    NOT NULL,
    scope_id     TEXT    NOT NULL CHECK (length(scope_id) = 36),
    unit         TEXT    NOT NULL,
    period       TEXT    NOT NULL,
    period_start INTEGER NOT NULL,
    holder       TEXT    NOT NULL CHECK (length(holder) = 36),
    granted      INTEGER NOT NULL,
    used         INTEGER NOT NULL CHECK (used >= 0),
    returned     INTEGER NOT NULL CHECK (returned >= 0 AND granted - used - returned >= 0),
    expires_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (scope, scope_id, unit, period, period_start, holder)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE ledger_leases;
DROP TABLE ledger;
