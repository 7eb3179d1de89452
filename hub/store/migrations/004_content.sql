-- What callers asked the hub to keep: completions with `store: true`, and answers to an Idempotency-Key. Everything
-- that they or a model said is sealed by the vault.

CREATE TABLE request_bodies (
    id         TEXT PRIMARY KEY,         -- the request's
    owner      TEXT NOT NULL,            -- a user's id, or "key:" and a key's family
    model      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    told_until INTEGER NOT NULL,         -- as a stored completion; 0 if it is none
    batches    INTEGER,                  -- of pieces, once the answer has ended
    metadata   BLOB NOT NULL,            -- sealed: JSON
    body       BLOB NOT NULL             -- sealed: JSON; nothing of what is not a stored completion
) STRICT;
CREATE INDEX request_bodies_by_owner ON request_bodies (owner, id);
CREATE INDEX request_bodies_by_expiry ON request_bodies (expires_at);

CREATE TABLE response_pieces (
    id     TEXT NOT NULL REFERENCES request_bodies (id) ON DELETE CASCADE,
    n      INTEGER NOT NULL,             -- 0, 1, 2: the order in which they came
    pieces BLOB NOT NULL,                -- sealed: a JSON array of pieces
    PRIMARY KEY (id, n)
) STRICT, WITHOUT ROWID;

-- Requests that may be sent again for the same answer, by a digest of their Idempotency-Key.
CREATE TABLE idempotency (
    owner      TEXT NOT NULL,            -- as above
    key        TEXT NOT NULL,            -- SHA-256 in hexadecimal
    request    TEXT NOT NULL UNIQUE REFERENCES request_bodies (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    asked      BLOB NOT NULL,            -- sealed: the request's id, and a SHA-256 of what was asked
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
