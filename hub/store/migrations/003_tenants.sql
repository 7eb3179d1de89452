-- Who may ask for what, and what it costs. JSON columns hold the values of hub/rules/tiers.py and hub/store/keys.py.

CREATE TABLE tiers (
    name       TEXT PRIMARY KEY,
    limits     TEXT NOT NULL,            -- JSON: windows, budgets, priority, retention
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id          TEXT PRIMARY KEY,
    email       TEXT NOT NULL UNIQUE,    -- in lower case
    name        TEXT NOT NULL,
    password    TEXT,                    -- argon2; NULL until the person has chosen one
    role        TEXT NOT NULL CHECK (role IN ('user', 'admin')),
    tier        TEXT NOT NULL REFERENCES tiers (name),
    language    TEXT,
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT;

-- Links with which a person makes an account; each is good once.
CREATE TABLE invitations (
    id          TEXT PRIMARY KEY,
    hash        BLOB NOT NULL UNIQUE,
    email       TEXT NOT NULL,
    role        TEXT NOT NULL CHECK (role IN ('user', 'admin')),
    tier        TEXT NOT NULL REFERENCES tiers (name),
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    accepted_at INTEGER,
    revoked_at  INTEGER
) STRICT;

-- Sign-ins of people in a browser.
CREATE TABLE sessions (
    id           TEXT PRIMARY KEY,
    hash         BLOB NOT NULL UNIQUE,
    user_id      TEXT NOT NULL REFERENCES users (id),
    address      TEXT NOT NULL,
    agent        TEXT NOT NULL,          -- what the browser calls itself
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE prices (
    id          INTEGER PRIMARY KEY,
    pattern     TEXT NOT NULL,
    own_workers INTEGER NOT NULL,
    valid_from  INTEGER NOT NULL,        -- Unix seconds
    input       INTEGER NOT NULL,        -- micro-dollars per million tokens
    output      INTEGER NOT NULL,
    cached      INTEGER,
    image       INTEGER NOT NULL,        -- micro-dollars each
    created_at  INTEGER NOT NULL,
    UNIQUE (pattern, own_workers, valid_from)
) STRICT;

ALTER TABLE api_keys ADD COLUMN user_id TEXT REFERENCES users (id);
ALTER TABLE api_keys ADD COLUMN family TEXT NOT NULL DEFAULT '';  -- the id of the first of those that followed each other
ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE api_keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
ALTER TABLE api_keys ADD COLUMN own_workers_only INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN expires_at INTEGER;
ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER;
UPDATE api_keys SET family = id;
CREATE INDEX api_keys_by_user ON api_keys (user_id);
CREATE INDEX api_keys_by_family ON api_keys (family);

ALTER TABLE worker_tokens ADD COLUMN user_id TEXT REFERENCES users (id);
ALTER TABLE worker_tokens ADD COLUMN shared INTEGER NOT NULL DEFAULT 1;
ALTER TABLE worker_tokens ADD COLUMN models TEXT NOT NULL DEFAULT '[]';  -- JSON: patterns; none is all
ALTER TABLE worker_tokens ADD COLUMN slots INTEGER;
ALTER TABLE worker_tokens ADD COLUMN trusted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE worker_tokens ADD COLUMN last_seen_at INTEGER;

ALTER TABLE requests ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN own_worker INTEGER NOT NULL DEFAULT 0;  -- answered by a private worker of the caller's
ALTER TABLE requests ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN images INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;
CREATE INDEX requests_by_key ON requests (key_id);

-- Sums of settled requests, added to in the transaction that settles. A request belongs to the hour in which it
-- was accepted. user_id is '' for keys of the operator.
CREATE TABLE usage_hourly (
    user_id           TEXT NOT NULL,
    start             INTEGER NOT NULL,  -- Unix seconds
    key_id            TEXT NOT NULL,
    model             TEXT NOT NULL,
    requests          INTEGER NOT NULL,
    completed         INTEGER NOT NULL,
    cancelled         INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    images            INTEGER NOT NULL,
    cost              INTEGER NOT NULL,
    duration_ms       INTEGER NOT NULL,  -- of the completed
    first_pieces      INTEGER NOT NULL,  -- how many had a first piece
    first_piece_ms    INTEGER NOT NULL,  -- and how long those waited for it, together
    PRIMARY KEY (user_id, start, key_id, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_hourly_by_start ON usage_hourly (start);
CREATE INDEX usage_hourly_by_key ON usage_hourly (key_id, start);

CREATE TABLE usage_daily (
    user_id           TEXT NOT NULL,
    start             INTEGER NOT NULL,
    key_id            TEXT NOT NULL,
    model             TEXT NOT NULL,
    requests          INTEGER NOT NULL,
    completed         INTEGER NOT NULL,
    cancelled         INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    images            INTEGER NOT NULL,
    cost              INTEGER NOT NULL,
    duration_ms       INTEGER NOT NULL,
    first_pieces      INTEGER NOT NULL,
    first_piece_ms    INTEGER NOT NULL,
    PRIMARY KEY (user_id, start, key_id, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_daily_by_start ON usage_daily (start);
CREATE INDEX usage_daily_by_key ON usage_daily (key_id, start);

ALTER TABLE audit_log ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE audit_log ADD COLUMN detail TEXT NOT NULL DEFAULT '';
