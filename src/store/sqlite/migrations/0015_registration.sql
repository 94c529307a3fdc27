-- Who comes in: registrations that wait, invitations; and who is kept out until a time.

-- Not active yet, and unknown to everybody but administrators.
ALTER TABLE members ADD COLUMN is_pending INTEGER NOT NULL DEFAULT 0 CHECK (is_pending IN (0, 1));
ALTER TABLE members ADD COLUMN suspended_until INTEGER;
ALTER TABLE members ADD COLUMN suspension_reason TEXT;
-- Ids and not keys: who invited whom is known for longer than the invitation.
ALTER TABLE members ADD COLUMN invited_by BLOB CHECK (length(invited_by) = 12);
ALTER TABLE members ADD COLUMN invitation BLOB CHECK (length(invitation) = 12);

CREATE INDEX members_pending ON members (name_key, id) WHERE is_pending = 1;
CREATE INDEX members_by_invitation ON members (invitation, key) WHERE invitation IS NOT NULL;

CREATE TABLE invitations (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 12),
    -- The SHA-256 hash of the code.
    code       BLOB    NOT NULL UNIQUE CHECK (length(code) = 32),
    tier       TEXT    NOT NULL CHECK (tier IN ('Disruption', 'Infinity', 'Sócio')),
    uses       INTEGER NOT NULL CHECK (uses > 0),
    used       INTEGER NOT NULL CHECK (used BETWEEN 0 AND uses),
    created_by BLOB    NOT NULL CHECK (length(created_by) = 12),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    note       TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX invitations_by_maker ON invitations (created_by, id);
CREATE INDEX invitations_by_end ON invitations (expires_at);
