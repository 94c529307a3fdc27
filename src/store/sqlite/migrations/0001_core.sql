-- Members, sessions, conversations and their logs.
--
-- Keys are small integers inside, however long the ids are outside, and what grows for ever (entries) is appended in
-- the order of its key: random leaves are what a B-tree store pays for. Times are milliseconds since the Unix epoch.

CREATE TABLE meta (
    -- One row: who this database is, and the place that the newest write took.
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    store_id BLOB    NOT NULL CHECK (length(store_id) = 8),
    position INTEGER NOT NULL
) STRICT;

INSERT INTO meta VALUES (1, randomblob(8), 0);

CREATE TABLE members (
    key               INTEGER PRIMARY KEY,
    id                BLOB    NOT NULL UNIQUE CHECK (length(id) = 12),
    name              TEXT    NOT NULL,
    email             TEXT    NOT NULL,
    -- The address in lower case: what makes it unique.
    email_key         TEXT    NOT NULL UNIQUE,
    password_hash     TEXT    NOT NULL,
    tier              TEXT    NOT NULL CHECK (tier IN ('Disruption', 'Infinity', 'Sócio')),
    phone             TEXT,
    company           TEXT,
    position          TEXT,
    profile_image_url TEXT,
    user_type         TEXT    NOT NULL CHECK (user_type IN ('member', 'admin')),
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    last_login        INTEGER,
    last_seen         INTEGER,
    is_active         INTEGER NOT NULL CHECK (is_active IN (0, 1))
) STRICT;

CREATE TABLE sessions (
    key        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE CHECK (length(id) = 12),
    member     INTEGER NOT NULL REFERENCES members (key),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE INDEX sessions_by_member ON sessions (member);

-- Every refresh token that a session ever had and that has not expired: an old one that comes back gives a thief away.
CREATE TABLE refresh_tokens (
    hash       BLOB    PRIMARY KEY CHECK (length(hash) = 32),
    session    INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

CREATE TABLE conversations (
    key           INTEGER PRIMARY KEY,
    id            BLOB    NOT NULL UNIQUE CHECK (length(id) = 12),
    kind          TEXT    NOT NULL CHECK (kind IN ('direct')),
    last_seq      INTEGER NOT NULL,
    last_at       INTEGER NOT NULL,
    -- The position of the newest entry, which orders the list of conversations.
    last_position INTEGER NOT NULL,
    -- The position of the newest change of any kind, which decides whether a sync lists it.
    changed       INTEGER NOT NULL
) STRICT;

CREATE TABLE participants (
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    member       INTEGER NOT NULL REFERENCES members (key),
    delivered    INTEGER NOT NULL DEFAULT 0,
    read         INTEGER NOT NULL DEFAULT 0 CHECK (0 <= read AND read <= delivered),
    PRIMARY KEY (conversation, member)
) STRICT, WITHOUT ROWID;

CREATE INDEX participants_by_member ON participants (member, conversation);

-- The logs of all conversations, appended.
CREATE TABLE entries (
    position     INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    seq          INTEGER NOT NULL CHECK (seq > 0),
    sender       INTEGER NOT NULL REFERENCES members (key),
    id           BLOB    NOT NULL UNIQUE CHECK (length(id) = 12),
    client_id    BLOB    NOT NULL CHECK (length(client_id) = 16),
    at           INTEGER NOT NULL,
    content      TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX entries_by_seq ON entries (conversation, seq);
-- Begins with what is ordered by time when the client makes version 7 UUIDs.
CREATE UNIQUE INDEX entries_by_client_id ON entries (client_id, sender, conversation);

-- When a watermark reached which seq: a message was delivered (kind 0) or read (kind 1) at the first row that covers it.
CREATE TABLE receipts (
    conversation INTEGER NOT NULL,
    member       INTEGER NOT NULL,
    kind         INTEGER NOT NULL CHECK (kind IN (0, 1)),
    seq          INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (conversation, member, kind, seq),
    FOREIGN KEY (conversation, member) REFERENCES participants (conversation, member)
) STRICT, WITHOUT ROWID;
