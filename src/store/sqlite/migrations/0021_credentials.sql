-- How often the password of a member was replaced, or their second factor reset: device proofs of before are good no more.
ALTER TABLE members ADD COLUMN credentials INTEGER NOT NULL DEFAULT 0;
