-- How often a push was tried and failed. Those that were put off before count anew.
ALTER TABLE push_tasks ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
