-- What a member sees of a session, and what makes a refresh whose answer was lost repeatable.

ALTER TABLE sessions ADD COLUMN device_name TEXT;
ALTER TABLE sessions ADD COLUMN device_platform TEXT;
ALTER TABLE sessions ADD COLUMN address TEXT;
-- Empty in a session of before: it was used when it was started, as far as is known.
ALTER TABLE sessions ADD COLUMN last_used_at INTEGER;
-- Empty in a session of before: it ends a setting after its start.
ALTER TABLE sessions ADD COLUMN ends_at INTEGER;
-- How often its token was replaced.
ALTER TABLE sessions ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
-- The hash of its newest token.
ALTER TABLE sessions ADD COLUMN newest BLOB CHECK (length(newest) = 32);
-- When that was known to have arrived; empty until then. What clients got before this is known to have arrived.
ALTER TABLE sessions ADD COLUMN confirmed_at INTEGER;

UPDATE sessions SET confirmed_at = created_at,
    newest = (SELECT hash FROM refresh_tokens t WHERE t.session = sessions.key AND t.used_at IS NULL);
