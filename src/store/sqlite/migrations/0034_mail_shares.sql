-- The network from whose share of the queue a mail has its place, as in links.asked; NULL: it has none of a stranger's.
ALTER TABLE mail ADD COLUMN share TEXT;
-- When it is sent among those of strangers: they take turns. NULL: before those.
ALTER TABLE mail ADD COLUMN turn INTEGER;

CREATE INDEX mail_by_share ON mail (share, kind, turn) WHERE share IS NOT NULL;
CREATE INDEX mail_by_turn ON mail (kind, turn, due);
DROP INDEX mail_by_kind;
