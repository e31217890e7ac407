-- +goose Up
-- What a token or project may use within one period, and has. Amounts are requests or
-- nanodollars. forfeited is what was left of the leases of processes that are gone: it
-- may have been spent. No lease is granted beyond limit_amount, but a limit may be
-- lowered, and a provider bill more than it should.
CREATE TABLE ledger (
    scope        TEXT COLLATE "C" NOT NULL CHECK (scope IN ('token', 'project')),
    scope_id     UUID             NOT NULL,
    unit         TEXT COLLATE "C" NOT NULL CHECK (unit IN ('requests', 'nano_usd')),
    period       TEXT COLLATE "C" NOT NULL CHECK (period IN ('total', 'day', 'week', 'month')),
    period_start BIGINT           NOT NULL,
    limit_amount BIGINT           NOT NULL CHECK (limit_amount >= 0),
    spent        BIGINT           NOT NULL DEFAULT 0 CHECK (spent >= 0),
    forfeited    BIGINT           NOT NULL DEFAULT 0 CHECK (forfeited >= 0),
    leased       BIGINT           NOT NULL DEFAULT 0 CHECK (leased >= 0),
    wanted_at    BIGINT           NOT NULL DEFAULT 0,
    alerted      BIGINT           NOT NULL DEFAULT 0,
    version      BIGINT           NOT NULL,
    updated_at   BIGINT           NOT NULL,
    PRIMARY KEY (scope, scope_id, unit, period, period_start)
) WITH (fillfactor = 50); -- rows are written each second, and stay on their pages

-- What each process has of it: granted - used - returned is its part of leased.
CREATE TABLE ledger_leases (
    scope        TEXT COLLATE "C" NOT NULL,
    scope_id     UUID             NOT NULL,
    unit         TEXT COLLATE "C" NOT NULL,
    period       TEXT COLLATE "C" NOT NULL,
    period_start BIGINT           NOT NULL,
    holder       UUID             NOT NULL,
    granted      BIGINT           NOT NULL,
    used         BIGINT           NOT NULL CHECK (used >= 0),
    returned     BIGINT           NOT NULL CHECK (returned >= 0 AND granted - used - returned >= 0),
    expires_at   BIGINT           NOT NULL,
    updated_at   BIGINT           NOT NULL,
    PRIMARY KEY (scope, scope_id, unit, period, period_start, holder)
) WITH (fillfactor = 50);

-- +goose Down
DROP TABLE ledger_leases;
DROP TABLE ledger;
