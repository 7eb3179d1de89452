BEGIN TRANSACTION;
CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    prefix     TEXT NOT NULL,            -- the secret's first characters, shown to people
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
INSERT INTO "api_keys" VALUES('8620d3d68dbcafa3',X'3F34D020E04BCC1D8C4A8B3D233CF24F12A89D50DB30B468BA19DBBEBA5752AA','sk-lmb-55555','from a test',1795571263470270,NULL);
CREATE TABLE audit_log (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL
) STRICT;
INSERT INTO "audit_log" VALUES(1,1795571262188365,'command line','worker_tokens.create','970802adf5d5c427');
INSERT INTO "audit_log" VALUES(2,1795571263475051,'command line','api_keys.create','8620d3d68dbcafa3');
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
INSERT INTO "requests" VALUES('6611003560f4dd3bf87b6925e2c2e','8620d3d68dbcafa3','/v1/chat/completions','echo',0,'completed',1795571263607328,1795571263608791,1795571263611609,1795571263611591,1795571263611746,'a real agent',1,13,10,3,0,'{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}','stop',NULL);
INSERT INTO "requests" VALUES('66110035632ad47e26ae57f9ea151','8620d3d68dbcafa3','/v1/chat/completions','echo',0,'completed',1795571263615782,1795571263622404,1795571263623188,1795571263623175,1795571263623280,'a real agent',1,13,10,3,0,'{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}','stop',NULL);
INSERT INTO "requests" VALUES('66110035653ca8884bc27ce366c22','8620d3d68dbcafa3','/v1/chat/completions','echo',0,'completed',1795571263624238,1795571263625445,1795571263626047,1795571263626037,1795571263626131,'a real agent',1,13,10,3,0,'{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}','stop',NULL);
INSERT INTO "requests" VALUES('66110035671c2b8990305171dd07d','8620d3d68dbcafa3','/v1/chat/completions','echo',1,'completed',1795571263631917,1795571263643577,1795571263643970,1795571263643960,1795571263644913,'a real agent',1,13,10,3,0,'{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}','stop',NULL);
INSERT INTO "requests" VALUES('661100356a70b6c3df6ba71f8b260','8620d3d68dbcafa3','/v1/chat/completions','echo-fail',0,'failed',1795571263645615,1795571263647565,1795571263648031,1795571263648023,1795571263648192,'a real agent',1,90,34,30,0,NULL,NULL,'upstream_error');
INSERT INTO "requests" VALUES('661100356b411eaf22322c13d5d5d','8620d3d68dbcafa3','/v1/chat/completions','echo-slow',1,'cancelled',1795571263648909,1795571263652772,1795571263653070,1795571263653062,1795571263653533,'a real agent',1,8,158,5,0,NULL,NULL,NULL);
INSERT INTO "requests" VALUES('661100356d05908122dafa5d09a9c','8620d3d68dbcafa3','/v1/chat/completions','echo-slow',1,'started',1795571263656251,NULL,1795571263659787,NULL,NULL,'a real agent',0,1725,NULL,NULL,0,NULL,NULL,NULL);
CREATE TABLE site_profiles (
    version    INTEGER PRIMARY KEY,
    profile    TEXT NOT NULL,            -- JSON
    note       TEXT NOT NULL,            -- where it came from
    actor      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE system_log (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,               -- whom it is about: a worker's name
    message TEXT NOT NULL
) STRICT;
CREATE TABLE worker_tokens (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    prefix     TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
INSERT INTO "worker_tokens" VALUES('970802adf5d5c427',X'2A2513292567420730E7C9460A52E7BAED32F0FB6BF84833514B95ABA7BA93DB','wt-lmb-80ab1','from a test',1795571262188078,NULL);
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
INSERT INTO "workers" VALUES('970802adf5d5c427','ddacf06c714c40efab19b6f09e7addb0','a real agent','agent','0.1.0',NULL,'["echo","echo-slow","echo-fail"]',1795571262852480,1795571262852480);
CREATE INDEX requests_open ON requests (state) WHERE settled_at IS NULL;
COMMIT;
PRAGMA user_version = 2;
