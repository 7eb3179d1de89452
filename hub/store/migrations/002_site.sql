-- What an operator made of the site profile; the highest version holds. Without any, the shipped one does.
CREATE TABLE site_profiles (
    version    INTEGER PRIMARY KEY,
    profile    TEXT NOT NULL,            -- JSON
    note       TEXT NOT NULL,            -- where it came from
    actor      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- What happened that an operator should know of.
CREATE TABLE system_log (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,               -- whom it is about: a worker's name
    message TEXT NOT NULL
) STRICT;
