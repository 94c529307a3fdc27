-- The generation of a session's tokens from which on access tokens are good: a new password ends those of before.
ALTER TABLE sessions ADD COLUMN good_from INTEGER NOT NULL DEFAULT 0;

-- When a member leaves, the reasons of their suspensions go from the audit log as well. Everything else stays forbidden.
DROP TRIGGER audit_is_not_changed;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
WHEN (new.address IS NOT NULL AND new.address IS NOT old.address) OR new.place IS NOT old.place OR new.at IS NOT old.at
    OR new.actor IS NOT old.actor OR new.action IS NOT old.action OR new.target IS NOT old.target
    OR (new.details IS NOT old.details
        AND (old.action IS NOT 'suspension_changed' OR new.details IS NOT json_remove(old.details, '$.reason')))
BEGIN
    SELECT raise(ABORT, 'the audit log is append-only');
END;
