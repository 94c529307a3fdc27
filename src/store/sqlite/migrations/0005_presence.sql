-- Who may see whether a member is there and when they were last seen.
ALTER TABLE members ADD COLUMN presence_to TEXT NOT NULL DEFAULT 'partners'
    CHECK (presence_to IN ('members', 'partners', 'nobody'));
