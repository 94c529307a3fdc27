-- What a message writes at its commit is one row of `entries`, appended, and what a receipt writes one of `marks`. All else
-- follows from them and is brought up to date later, in order (see `flush` and `keys`).

-- Watermarks that moved and are not yet in `participants` and `receipts`: emptied whenever those are brought up to date.
CREATE TABLE marks (
    key          INTEGER PRIMARY KEY,
    position     INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    member       INTEGER NOT NULL,
    delivered    INTEGER NOT NULL,
    read         INTEGER NOT NULL,
    at           INTEGER NOT NULL
) STRICT;

-- Where entries are found by what their sender calls them, and by their id: hashes in sorted runs, each of many pages. A run is
-- written once and replaced by one that has it and others.
CREATE TABLE key_runs (
    number  INTEGER PRIMARY KEY,
    -- How often its keys have been merged.
    level   INTEGER NOT NULL,
    -- It has 2^bits pages; the first bits of a hash say which.
    bits    INTEGER NOT NULL,
    -- Entries up to this position are in this run or in one before.
    until   INTEGER NOT NULL,
    -- How many keys are of client ids, which are what is in the filter.
    clients INTEGER NOT NULL,
    filter  BLOB    NOT NULL
) STRICT;

CREATE TABLE key_pages (
    -- number * 2^32 + the place in the run.
    page INTEGER PRIMARY KEY,
    -- Hashes (8 bytes) with positions (6 bytes), sorted.
    keys BLOB    NOT NULL
) STRICT;
