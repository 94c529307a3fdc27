-- Whether nobody was registered by the link, because the address is another's. It is kept for as long as a record of who has not verified theirs.
ALTER TABLE links ADD COLUMN is_claim INTEGER NOT NULL DEFAULT 0;
-- The invitation of which it holds a use; NULL: none.
ALTER TABLE links ADD COLUMN invitation BLOB;
-- A hash of the address with which it holds that; NULL also when the member whose address it is has left.
ALTER TABLE links ADD COLUMN address BLOB;
CREATE INDEX links_claims ON links (made_at) WHERE is_claim = 1;
CREATE INDEX links_by_invitation ON links (invitation) WHERE invitation IS NOT NULL;
CREATE INDEX links_by_address ON links (address, invitation) WHERE address IS NOT NULL;
