-- Plans that do not depend on what a small club once looked like.

-- One look at the file when it was small told the planner for ever to look through all conversations for those of a member.
-- Without statistics it takes the indexes.
DROP TABLE IF EXISTS sqlite_stat1;
DROP TABLE IF EXISTS sqlite_stat4;

-- The directory of one tier, by name.
CREATE INDEX members_by_tier_and_name ON members (tier, name_key, id) WHERE is_erased = 0;
