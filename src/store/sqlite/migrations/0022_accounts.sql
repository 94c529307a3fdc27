-- The audit log by what administrators ask for, the newest first.
CREATE INDEX audit_by_at ON audit (at);
CREATE INDEX audit_by_actor_at ON audit (actor, at);
CREATE INDEX audit_by_target_at ON audit (target, at);
CREATE INDEX audit_by_action_at ON audit (action, at);

-- From where a link was asked for, each time that it was: 16 digits each, one after the other.
ALTER TABLE links ADD COLUMN asked TEXT NOT NULL DEFAULT '';
