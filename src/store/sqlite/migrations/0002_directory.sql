-- The directory: who shares what, search, versions of profiles, members who have left; and the audit log.

-- The name without accents and case: what the directory is ordered by.
ALTER TABLE members ADD COLUMN name_key TEXT NOT NULL DEFAULT '';
ALTER TABLE members ADD COLUMN email_to TEXT NOT NULL DEFAULT 'nobody' CHECK (email_to IN ('members', 'nobody'));
ALTER TABLE members ADD COLUMN phone_to TEXT NOT NULL DEFAULT 'nobody' CHECK (phone_to IN ('members', 'nobody'));
ALTER TABLE members ADD COLUMN company_to TEXT NOT NULL DEFAULT 'members' CHECK (company_to IN ('members', 'nobody'));
ALTER TABLE members ADD COLUMN position_to TEXT NOT NULL DEFAULT 'members' CHECK (position_to IN ('members', 'nobody'));
ALTER TABLE members ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE members ADD COLUMN is_erased INTEGER NOT NULL DEFAULT 0 CHECK (is_erased IN (0, 1));

CREATE INDEX members_by_name ON members (name_key, id);
CREATE INDEX members_admins ON members (user_type, is_active) WHERE user_type = 'admin';

-- Folded words of what members share. The row id is the key of the member.
CREATE VIRTUAL TABLE member_search USING fts5 (
    name, company, position, tokenize = "unicode61 remove_diacritics 0", prefix = '1 2 3'
);

-- Ids and not keys: an entry outlives everything that it is about.
CREATE TABLE audit (
    place   INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   BLOB CHECK (length(actor) = 12),
    action  TEXT    NOT NULL,
    target  BLOB    NOT NULL CHECK (length(target) = 12),
    details TEXT    NOT NULL,
    address TEXT
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT raise(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN
    SELECT raise(ABORT, 'the audit log is append-only');
END;
