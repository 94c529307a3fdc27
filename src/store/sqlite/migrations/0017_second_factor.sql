-- The second factor of a member, and when who is at a device has proved again that they are who they say.

-- The secret of the authenticator app, sealed; all four are there or none.
ALTER TABLE members ADD COLUMN second_factor_secret BLOB;
ALTER TABLE members ADD COLUMN second_factor_at INTEGER;
-- The time step of the code that was used last.
ALTER TABLE members ADD COLUMN second_factor_step INTEGER;
-- The SHA-256 hashes of the recovery codes that are not used yet, one after the other.
ALTER TABLE members ADD COLUMN recovery_codes BLOB CHECK (length(recovery_codes) % 32 = 0);

-- Empty: when the session was started.
ALTER TABLE sessions ADD COLUMN proved_at INTEGER;
