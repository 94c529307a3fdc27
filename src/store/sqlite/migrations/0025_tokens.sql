-- The generation of a session's tokens from which on access tokens are good: a new password ends those of before.
ALTER TABLE sessions ADD COLUMN good_from INTEGER NOT NULL DEFAULT 0;
