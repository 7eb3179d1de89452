-- What the operator lets models be called, and which are not shown.

CREATE TABLE model_aliases (
    name       TEXT PRIMARY KEY,         -- or a pattern of names
    targets    TEXT NOT NULL,            -- JSON: models or patterns, in the order in which they are tried
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hidden_models (
    pattern    TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
