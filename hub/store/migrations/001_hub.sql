-- Times are Unix microseconds, money is micro-dollars, secrets are kept as SHA-256 only.

CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    prefix     TEXT NOT NULL,            -- the secret's first characters, shown to people
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE worker_tokens (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    prefix     TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

-- Every worker that ever said hello, and what it offered last: a model is "known" while a row names it.
CREATE TABLE workers (
    token_id   TEXT NOT NULL REFERENCES worker_tokens (id),
    worker_id  TEXT NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    version    TEXT NOT NULL,
    region     TEXT,
    models     TEXT NOT NULL,            -- a JSON array of model ids
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    PRIMARY KEY (token_id, worker_id)
) STRICT, WITHOUT ROWID;

-- The journal: one row a request, no content. Ids begin with their time, so rows are appended.
CREATE TABLE requests (
    id                TEXT PRIMARY KEY,
    key_id            TEXT NOT NULL REFERENCES api_keys (id),
    endpoint          TEXT NOT NULL,
    model             TEXT NOT NULL,
    stream            INTEGER NOT NULL,
    state             TEXT NOT NULL DEFAULT 'accepted',
    accepted_at       INTEGER NOT NULL,
    offered_at        INTEGER,
    started_at        INTEGER,
    first_piece_at    INTEGER,
    settled_at        INTEGER,
    worker            TEXT,              -- the name of the worker that had it last
    deliveries        INTEGER NOT NULL DEFAULT 0,
    delivered_chars   INTEGER NOT NULL DEFAULT 0,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    tokens_estimated  INTEGER NOT NULL DEFAULT 0,
    worker_usage      TEXT,              -- the worker's own figures, as JSON; never billed
    finish_reason     TEXT,
    error_code        TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_open ON requests (state) WHERE settled_at IS NULL;

CREATE TABLE audit_log (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL
) STRICT;
