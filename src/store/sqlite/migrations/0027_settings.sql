-- What a member has set of a conversation: of which messages they are told by pushes, until when of none, and how often that was changed.
ALTER TABLE participants ADD COLUMN notify TEXT NOT NULL DEFAULT 'all' CHECK (notify IN ('all', 'mentions', 'nothing'));
ALTER TABLE participants ADD COLUMN muted_until INTEGER;
ALTER TABLE participants ADD COLUMN settings_revision INTEGER NOT NULL DEFAULT 0;
