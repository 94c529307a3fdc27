-- What the token of a link is derived from, so that the same link can be sent again; NULL: it cannot.
ALTER TABLE links ADD COLUMN token BLOB;
-- How often it was sent.
ALTER TABLE links ADD COLUMN sent INTEGER NOT NULL DEFAULT 1;
