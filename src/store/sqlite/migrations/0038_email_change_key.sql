-- The new address in the form in which it is unique: links of all members to one address are counted. Those of before are forgotten in a day.
ALTER TABLE links ADD COLUMN email_key TEXT;
CREATE INDEX links_by_email ON links (email_key, made_at) WHERE email_key IS NOT NULL;
