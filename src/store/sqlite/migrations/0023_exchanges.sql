-- Of the exchange that made the newest token of a session: the hash of what its client called it, empty if it did not, and where it came
-- from.
ALTER TABLE sessions ADD COLUMN attempt BLOB CHECK (length(attempt) = 32);
ALTER TABLE sessions ADD COLUMN last_address TEXT;
