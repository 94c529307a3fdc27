-- Mail that is to be sent, the links in it, and what mail has to know of a member.

-- The language that a member chose or asked for; NULL: that of the server.
ALTER TABLE members ADD COLUMN language TEXT;
-- When the member showed that the address is theirs.
ALTER TABLE members ADD COLUMN email_verified_at INTEGER;
-- Whether they have to before they can sign in.
ALTER TABLE members ADD COLUMN must_verify INTEGER NOT NULL DEFAULT 0;

CREATE TABLE mail (
    key TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    -- Whom it is for, if that is known.
    member BLOB,
    -- What it is about, as JSON.
    body TEXT NOT NULL,
    due INTEGER NOT NULL,
    -- When it is given up.
    until INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- Drawn when it is written, so that what finishes a former one leaves this one.
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX mail_by_due ON mail (due);
CREATE INDEX mail_by_end ON mail (until);
CREATE INDEX mail_by_member ON mail (member) WHERE member IS NOT NULL;

CREATE TABLE links (
    hash BLOB NOT NULL PRIMARY KEY,
    member BLOB NOT NULL,
    purpose TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- Whether it was used, or is good no more for another reason.
    is_over INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX links_by_member ON links (member, made_at);
CREATE INDEX links_by_age ON links (made_at);
