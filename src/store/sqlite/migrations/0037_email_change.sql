-- The new address, of a link that changes it; NULL of others.
ALTER TABLE links ADD COLUMN email TEXT;
