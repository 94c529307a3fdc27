-- Keys of ids are hashes with a secret: without one a member could choose ids whose keys all fall into one page of a run.

ALTER TABLE meta ADD COLUMN key_secret BLOB CHECK (length(key_secret) = 16);

UPDATE meta SET key_secret = randomblob(16);
