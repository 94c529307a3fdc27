-- Push: devices that are told of messages, what they have acknowledged, and what they are to be told.

CREATE TABLE push_devices (
    key           INTEGER PRIMARY KEY,
    -- The beginning of a hash of the member and the device.
    id            BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    member        INTEGER NOT NULL REFERENCES members (key) ON DELETE CASCADE,
    device        TEXT    NOT NULL,
    -- The session that registered it, by its id.
    session       BLOB    NOT NULL CHECK (length(session) = 12),
    -- Where pushes are sent, as JSON, and the hash by which an address is found: it belongs to one device.
    address       TEXT    NOT NULL,
    hash          BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    platform      TEXT    NOT NULL,
    registered_at INTEGER NOT NULL,
    -- The number that it was told last to show; NULL: none that is larger than zero.
    badge         INTEGER
) STRICT;

CREATE INDEX push_devices_by_member ON push_devices (member);
CREATE INDEX push_devices_by_session ON push_devices (session);

-- Nothing is pushed to a device whose session is over, however that ended.
CREATE TRIGGER push_devices_of_revoked AFTER UPDATE OF revoked_at ON sessions WHEN new.revoked_at IS NOT NULL BEGIN
    DELETE FROM push_devices WHERE session = new.id;
END;
CREATE TRIGGER push_devices_of_removed AFTER DELETE ON sessions BEGIN
    DELETE FROM push_devices WHERE session = old.id;
END;

-- Up to which entry of a conversation a device has said that it has all.
CREATE TABLE push_marks (
    device       INTEGER NOT NULL REFERENCES push_devices (key) ON DELETE CASCADE,
    conversation BLOB    NOT NULL CHECK (length(conversation) = 12),
    seq          INTEGER NOT NULL,
    PRIMARY KEY (device, conversation)
) STRICT, WITHOUT ROWID;

CREATE TABLE push_tasks (
    device   INTEGER NOT NULL REFERENCES push_devices (key) ON DELETE CASCADE,
    -- The id of a conversation; zeros: the number at the icon.
    subject  BLOB    NOT NULL CHECK (length(subject) = 12),
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    -- When the last message was stored.
    at       INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    -- When what was added is due that came after it was taken.
    next_due INTEGER,
    revision INTEGER NOT NULL,
    PRIMARY KEY (device, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX push_tasks_by_due ON push_tasks (due);
CREATE INDEX push_tasks_by_age ON push_tasks (at);

CREATE TABLE push_choices (
    member      INTEGER PRIMARY KEY REFERENCES members (key) ON DELETE CASCADE,
    content     TEXT NOT NULL,
    -- Hours in which nothing is pushed: all three are there or none.
    quiet_from  TEXT,
    quiet_until TEXT,
    time_zone   TEXT
) STRICT;

-- One row: everything that was stored up to there is acknowledged, or a task.
CREATE TABLE push_place (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    position INTEGER NOT NULL
) STRICT;

-- Of what was stored before nobody is told.
INSERT INTO push_place SELECT 1, position FROM meta;
