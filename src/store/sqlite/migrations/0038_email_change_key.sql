-- The new address in the form in which it is unique: links of all members to one address are counted. Those of before are forgotten in a day.
ALTER TABLE links ADD COLUMN email_key TEXT;
CREATE INDEX links_by_email ON links (email_key, made_at) WHERE email_key IS NOT NULL;
-- What the member had proved who they are with when they asked for a link that changes the address: with other credentials it is not good.
ALTER TABLE links ADD COLUMN credentials INTEGER;
-- The device of a session, if it had proved at the login that its member had logged in on it before.
ALTER TABLE sessions ADD COLUMN known_device BLOB;
