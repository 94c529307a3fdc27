-- The position at which a member has last set something of a conversation: what a sync brings to them, and to nobody else.
ALTER TABLE participants ADD COLUMN configured INTEGER NOT NULL DEFAULT 0;
