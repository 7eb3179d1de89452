-- What callers asked the hub to keep (`store: true`). Everything that they or a model said is sealed by the vault.

CREATE TABLE request_bodies (
    id         TEXT PRIMARY KEY,         -- the request's
    owner      TEXT NOT NULL,            -- a user's id, or "key:" and a key's family
    model      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    metadata   BLOB NOT NULL,            -- sealed: JSON
    body       BLOB NOT NULL             -- sealed: JSON
) STRICT;
CREATE INDEX request_bodies_by_owner ON request_bodies (owner, id);
CREATE INDEX request_bodies_by_expiry ON request_bodies (expires_at);

CREATE TABLE response_pieces (
    id     TEXT NOT NULL REFERENCES request_bodies (id) ON DELETE CASCADE,
    n      INTEGER NOT NULL,             -- 0, 1, 2: the order in which they came
    pieces BLOB NOT NULL,                -- sealed: a JSON array of pieces
    PRIMARY KEY (id, n)
) STRICT, WITHOUT ROWID;
