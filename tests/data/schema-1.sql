BEGIN TRANSACTION;
CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    prefix     TEXT NOT NULL,            -- the secret's first characters, shown to people
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
INSERT INTO "api_keys" VALUES('c5349baaa07c7022',X'3F34D020E04BCC1D8C4A8B3D233CF24F12A89D50DB30B468BA19DBBEBA5752AA','sk-lmb-55555','from a test',1795571257786638,NULL);
CREATE TABLE audit_log (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL
) STRICT;
INSERT INTO "audit_log" VALUES(1,1795571256618434,'command line','worker_tokens.create','8132085d6dff2ca1');
INSERT INTO "audit_log" VALUES(2,1795571257786926,'command line','api_keys.create','c5349baaa07c7022');
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
INSERT INTO "requests" VALUES('6611003002d33f27d82188be8c918','c5349baaa07c7022','/v1/chat/completions','echo',0,'completed',1795571257980483,1795571257991669,1795571257992889,1795571257992870,1795571257993034,'a real agent',1,13,10,3,0,'{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}','stop',NULL);
INSERT INTO "requests" VALUES('6611003006ff5b2e9f44a9ff9311b','c5349baaa07c7022','/v1/chat/completions','echo',0,'completed',1795571257995417,1795571257996625,1795571258000197,1795571258000182,1795571258000302,'a real agent',1,13,10,3,0,'{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}','stop',NULL);
INSERT INTO "requests" VALUES('66110030086eeafe7e6c9f3a0b18c','c5349baaa07c7022','/v1/chat/completions','echo',0,'completed',1795571258001266,1795571258003588,1795571258004160,1795571258004149,1795571258004245,'a real agent',1,13,10,3,0,'{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}','stop',NULL);
INSERT INTO "requests" VALUES('66110030095cb83f0eeb87052d08b','c5349baaa07c7022','/v1/chat/completions','echo',1,'completed',1795571258005062,1795571258007569,1795571258008161,1795571258008151,1795571258012105,'a real agent',1,13,10,3,0,'{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}','stop',NULL);
INSERT INTO "requests" VALUES('661100300b49670b3c2d041060e04','c5349baaa07c7022','/v1/chat/completions','echo-fail',0,'failed',1795571258012997,1795571258015588,1795571258016038,1795571258016031,1795571258016209,'a real agent',1,90,34,30,0,NULL,NULL,'upstream_error');
INSERT INTO "requests" VALUES('661100300c3be184a9d8d51081d4c','c5349baaa07c7022','/v1/chat/completions','echo-slow',1,'cancelled',1795571258016796,1795571258019338,1795571258019650,1795571258019643,1795571258020071,'a real agent',1,8,158,5,0,NULL,NULL,NULL);
INSERT INTO "requests" VALUES('661100300d4a0eca433eeb4e0e284','c5349baaa07c7022','/v1/chat/completions','echo-slow',1,'started',1795571258021208,NULL,1795571258022347,NULL,NULL,'a real agent',0,1050,NULL,NULL,0,NULL,NULL,NULL);
CREATE TABLE worker_tokens (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    prefix     TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
INSERT INTO "worker_tokens" VALUES('8132085d6dff2ca1',X'85B5FC2DCCC771C8D7081DE901C32940E8E7485DA5389C81A64E4E61DC0AFEAC','wt-lmb-9730c','from a test',1795571256618200,NULL);
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
INSERT INTO "workers" VALUES('8132085d6dff2ca1','3194b26295c46814233c5a55975065bc','a real agent','agent','0.1.0',NULL,'["echo","echo-slow","echo-fail"]',1795571257327879,1795571257327879);
CREATE INDEX requests_open ON requests (state) WHERE settled_at IS NULL;
COMMIT;
PRAGMA user_version = 1;
