-- A member who leaves leaves nothing: their addresses in the audit log, and what was in the search index.

-- Everything but the removal of an address stays forbidden.
DROP TRIGGER audit_is_not_changed;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
WHEN new.address IS NOT NULL OR new.place IS NOT old.place OR new.at IS NOT old.at OR new.actor IS NOT old.actor
    OR new.action IS NOT old.action OR new.target IS NOT old.target OR new.details IS NOT old.details
BEGIN
    SELECT raise(ABORT, 'the audit log is append-only');
END;

CREATE INDEX audit_by_actor ON audit (actor);
CREATE INDEX audit_by_target ON audit (target);

UPDATE audit SET address = NULL
WHERE address IS NOT NULL AND actor IN (SELECT id FROM members WHERE is_erased = 1);

-- Words are removed from the index, and not only marked as removed; those of before with the rebuild.
INSERT INTO member_search (member_search, rank) VALUES ('secure-delete', 1);
INSERT INTO member_search (member_search) VALUES ('rebuild');
