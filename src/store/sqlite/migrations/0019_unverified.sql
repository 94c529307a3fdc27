-- Who has to verify the address is no member yet: not active, in no list and not found, until they have done so.

-- Who has signed in all the same, while no mail was sent, stays a member; so does who was made an administrator. Who was
-- deactivated stays that.
UPDATE members SET must_verify = 0
WHERE must_verify = 1 AND is_pending = 0 AND (last_login IS NOT NULL OR user_type = 'admin' OR is_active = 0);
UPDATE members SET is_active = 0 WHERE must_verify = 1;
DELETE FROM member_search WHERE rowid IN (SELECT key FROM members WHERE must_verify = 1);

-- Who waits for an administrator has verified the address.
DROP INDEX members_pending;
CREATE INDEX members_pending ON members (name_key, id) WHERE is_pending = 1 AND must_verify = 0;
CREATE INDEX members_unverified ON members (name_key, id) WHERE must_verify = 1;
CREATE INDEX members_unverified_by_age ON members (created_at) WHERE must_verify = 1;
